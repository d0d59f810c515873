"""Run the recorder: python -m services.recorder."""

from common.telemetry.zero_code import prepare
from common.web.server import run_service
from services.recorder.config import load

if __name__ == "__main__":
    run_service(load, "services.recorder.app:start", prepare=lambda config: prepare(config.telemetry))
