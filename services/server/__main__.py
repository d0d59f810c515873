"""Runs the server: python -m services.server."""

import sys
import threading

from common.core.env import Env
from common.web.server import Running, main, serve
from services.server.config import load


def run(env: Env) -> None:
    """Read the settings and serve until told to stop."""
    config = load(env)

    def start(stop_event: threading.Event) -> Running:
        # Imported in the worker: what the supervising process does not load, it does not hold in memory.
        from services.server.app import start as start_server

        return start_server(config, stop_event)

    serve(config.address, start)


if __name__ == "__main__":
    main(run, sys.argv[1:])
