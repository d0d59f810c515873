"""Keep pika's own logging from repeating at length what this package says in one line."""

import logging

# These log each refused connection up to seven times, partly with a traceback, and each closed channel.
# Link logs it once.
_SILENT = ("pika.adapters", "pika.connection", "pika.channel")


def quiet_pika() -> None:
    """From now on pika logs warnings at most, and nothing of connections and channels, which Link reports."""
    logging.getLogger("pika").setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
