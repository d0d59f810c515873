"""Run the server: python -m services.server."""

from common.telemetry.zero_code import prepare
from common.web.server import run_service
from services.server.config import load

if __name__ == "__main__":
    run_service(load, "services.server.app:start", prepare=lambda config: prepare(config.telemetry))
