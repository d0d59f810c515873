"""Runs the server: python -m services.server."""

import sys
import threading

from common.serving import Running, main, serve
from common.settings import Env
from services.server.config import load


def run(env: Env) -> None:
    """Read the settings and serve until told to stop."""
    config = load(env)

    def start(told_to_stop: threading.Event) -> Running:
        # Imported in the worker: what the supervising process does not load, it does not hold in memory.
        from services.server.app import start as start_server

        return start_server(config, told_to_stop)

    serve(config.address, start)


if __name__ == "__main__":
    main(run, sys.argv[1:])
