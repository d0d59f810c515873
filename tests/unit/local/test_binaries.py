"""Server programs are found outside the PATH, and a missing one is reported with the package to install."""

from pathlib import Path

import pytest

from local.errors import LocalError
from local.servers import binaries


def program(folder: Path, name: str) -> Path:
    """Make an executable file."""
    folder.mkdir(parents=True)
    file = folder / name
    file.touch(mode=0o755)
    return file


def test_the_newest_of_several_versions_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are compared as numbers: 17 is newer than 9."""
    program(tmp_path / "9/bin", "initdb")
    newest = program(tmp_path / "17/bin", "initdb")
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", (f"{tmp_path}/*/bin",))
    assert binaries.postgres_binary("initdb") == newest


def test_a_missing_server_is_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the package, and the variable for a server on another machine."""
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", ())
    monkeypatch.setattr(binaries, "RABBITMQ_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LocalError, match=r"apt-get install postgresql.*MYTHICAL_DATABASE_HOST"):
        binaries.postgres_binary("initdb")
    with pytest.raises(LocalError, match=r"apt-get install rabbitmq-server.*MYTHICAL_QUEUE_HOST"):
        binaries.rabbitmq_binary()
    assert binaries.missing() == ["postgresql", "rabbitmq-server"]
