"""Run the requester: python -m services.requester."""

from common.telemetry.zero_code import prepare
from common.web.server import run_service
from services.requester.config import load

if __name__ == "__main__":
    run_service(load, "services.requester.app:start", prepare=lambda config: prepare(config.telemetry))
