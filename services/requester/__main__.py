"""Runs the requester: python -m services.requester."""

import sys
import threading

from common.core.env import Env
from common.web.server import Running, main, serve
from services.requester.config import load


def run(env: Env) -> None:
    """Read the settings and serve until told to stop."""
    config = load(env)

    def start(stop_event: threading.Event) -> Running:
        # Imported in the worker: what the supervising process does not load, it does not hold in memory.
        from services.requester.app import start as start_requester

        return start_requester(config, stop_event)

    serve(config.address, start)


if __name__ == "__main__":
    main(run, sys.argv[1:])
