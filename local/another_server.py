"""Run a second server next to that of make demo, on another rung: PORT=5053 python -m local.another_server zero-code.

It has the settings of the first, but for injected faults and OTEL_ variables, which are those of the shell, and another
name in telemetry: `mythical-server-zero-code`. Ctrl-C ends it.
"""

import os
import sys
from typing import NoReturn

from common.core.env import Env, SettingsError
from local.errors import LocalError
from local.ports import Ports, environment_of


def main() -> NoReturn:
    """Become the server; exit with a line and status 2 for a wrong argument or setting, and without a make demo."""
    try:
        (rung,) = sys.argv[1:]
        env = Env(os.environ)
        port, first = env.port("PORT", 5053), Ports.read(env)["server"]
    except ValueError:
        _reject("the argument is a rung: off, ebpf, zero-code, stock, or fast")
    except (SettingsError, LocalError) as error:
        _reject(str(error))
    settings = environment_of(first)
    if settings is None:
        _reject(f"no server that you started listens on port {first}; run make demo")
    shell = {name: value for name, value in os.environ.items() if name.startswith(("FAULT_", "OTEL_"))}
    own = {"HTTP_PORT": str(port), "SERVER_INSTRUMENTATION": rung, "OTEL_SERVICE_NAME": f"mythical-server-{rung}"}
    command = [sys.executable, "-m", "services.server"]
    os.execve(sys.executable, command, {**settings, **shell, **own})  # noqa: S606 - our own program


def _reject(text: str) -> NoReturn:
    sys.stderr.write(f"another_server: {text}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
