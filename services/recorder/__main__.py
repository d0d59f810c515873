"""Runs the recorder: python -m services.recorder."""

import sys
import threading

from common.core.env import Env
from common.web.server import Running, main, serve
from services.recorder.config import load


def run(env: Env) -> None:
    """Read the settings and serve until told to stop."""
    config = load(env)

    def start(stop_event: threading.Event) -> Running:
        # Imported in the worker: what the supervising process does not load, it does not hold in memory.
        from services.recorder.app import start as start_recorder

        return start_recorder(config, stop_event)

    serve(config.address, start)


if __name__ == "__main__":
    main(run, sys.argv[1:])
