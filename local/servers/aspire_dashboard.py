"""The Aspire dashboard, a viewer of traces, metrics and logs; optional, if its package is installed."""

import json
import os
from pathlib import Path

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.processes.program import Program
from local.state import CHECKOUT

BINARY = CHECKOUT / "local/aspire/node_modules/@microsoft/aspire-cli-linux-x64/bin/aspire"
# Its HOME is a folder of the run, so that its runtime and settings do not go to the home of the user.
NO_UPDATE_CHECK = {"features": {"updateNotificationsEnabled": "false"}}


class AspireDashboard(Program):
    """The dashboard with its page on `port`; `otlp_http` is the base URL that it receives telemetry on."""

    def __init__(self, home: Path, port: int, log: Path) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.otlp_http = f"http://{LOOPBACK}:{free_port()}"
        self._home = home
        process = Process(
            "aspire",
            [
                *(str(BINARY), "dashboard", "run", "--allow-anonymous", "--nologo", "--non-interactive"),
                *("--frontend-url", self.url, "--otlp-http-url", self.otlp_http),
                *("--otlp-grpc-url", f"http://{LOOPBACK}:{free_port()}", "--"),
                "--Dashboard:ApplicationName=Mythical beasts",
                "--Dashboard:Otlp:SuppressUnsecuredMessage=true",
            ],
            log=log,
            record=home.with_name(f"{home.name}.pid"),
            mark="aspire",
            environ=_environ(home),
            folder=home,
        )
        super().__init__(process, ready_url=self.url)

    @staticmethod
    def is_installed() -> bool:
        """Return whether its package is installed; scripts/setup installs it where possible."""
        return os.access(BINARY, os.X_OK)

    def launch(self) -> None:
        """Start it without its check for updates, and return immediately."""
        settings = self._home / ".aspire/aspire.config.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(NO_UPDATE_CHECK))
        super().launch()


def _environ(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(home),  # it unpacks 300 MB there
        "ASPIRE_CLI_TELEMETRY_OPTOUT": "true",
        # Both are needed where libicu is not installed.
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
        "DOTNET_SYSTEM_GLOBALIZATION_PREDEFINED_CULTURES_ONLY": "false",
    }
