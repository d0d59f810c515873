"""Whether the suite could start with Docker here, now."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from doctor import cloud, dotenv, machine
from doctor.dotenv import ROOT
from doctor.report import BROKEN, Finding, Report


def examine(environ: Mapping[str, str], more: Sequence[Path], *, with_cloud: bool) -> Report:
    """Look at this machine and at what compose would be told. Raises Unusable if a file of `more` cannot be read."""
    file = ROOT / ".env"
    if not file.exists():
        gone = Finding(".env", "is missing", BROKEN, "git checkout .env")
        return Report("none", [*_machine(), gone])
    told = dotenv.values(environ, [file, *more])
    layer = cloud.check(told) if with_cloud else []
    return Report("none", [*_machine(), *dotenv.check(told), *machine.ports(told), *layer])


def _machine() -> list[Finding]:
    return [machine.docker(), machine.compose(), machine.memory(), machine.disk()]
