"""Run the frontend: python -m services.frontend."""

from common.telemetry.zero_code import prepare
from common.web.server import run_service
from services.frontend.config import load

if __name__ == "__main__":
    run_service(load, "services.frontend.app:start", prepare=lambda config: prepare(config.telemetry))
