"""The beat: a file that is touched while the loop of the users turns, for health checks of containers."""

from pathlib import Path

import gevent

BEAT, EVERY_S = "beat", 3.0


def beat(file: Path) -> None:
    """Touch a file for ever, its folder made first; a loop that hangs or a process that is gone lets it grow old."""
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file.touch()
        gevent.sleep(EVERY_S)
