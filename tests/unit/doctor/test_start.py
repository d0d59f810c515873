"""Conditions that prevent the start of the suite are reported with a remedy."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from doctor import env_files, machine
from doctor.containers import Container, check
from doctor.report import BROKEN, NOTE, OK, Unusable

ENV = env_files.read(env_files.ROOT / ".env")


@pytest.fixture
def used_port() -> Iterator[int]:
    """Return a port with a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_the_committed_values_are_complete() -> None:
    """No variable has to be set before the first start."""
    assert [finding.state for finding in env_files.check(ENV)] == [OK]


@pytest.mark.parametrize("value", ["", "abc", "0", "70000", "-1", "9" * 5000])
def test_an_invalid_port_is_named(value: str) -> None:
    """The message names the variable; compose would only report that the file is invalid."""
    (found,) = env_files.check(ENV | {"LOKI_PORT": value})
    assert found.state == BROKEN
    assert "LOKI_PORT" in found.said


def test_two_equal_ports_are_named() -> None:
    """The second container would fail to start, with a misleading message."""
    (found,) = env_files.check(ENV | {"LOKI_PORT": ENV["TEMPO_PORT"]})
    assert found.said == f"TEMPO_PORT and LOKI_PORT are both {ENV['TEMPO_PORT']}"


def test_the_shell_has_priority_over_files_and_a_later_file_over_an_earlier_one(tmp_path: Path) -> None:
    """Docker Compose has the same order."""
    one, other = tmp_path / "one.env", tmp_path / "other.env"
    one.write_text("# LOKI_PORT=0\nLOKI_PORT=1\nTEMPO_PORT=1 # why\nMIMIR_PORT='1'\n")
    other.write_text("LOKI_PORT=2\nTEMPO_PORT=2\n")
    values = env_files.values({"LOKI_PORT": "3", "MIMIR_PORT": ""}, [one, other])
    assert values | {"LOKI_PORT": "3", "TEMPO_PORT": "2", "MIMIR_PORT": "1"} == values


def test_a_file_of_an_editor_of_windows_is_read(tmp_path: Path) -> None:
    """It begins with a byte order mark, and its lines end with CR LF; compose reads it, and `export`, too."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfONE=1\r\nexport TWO='2'\r\n")
    assert env_files.read(tmp_path / ".env") == {"ONE": "1", "TWO": "2"}


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A misspelled name is not treated as an empty file."""
    with pytest.raises(Unusable, match=r"missing\.env: No such file"):
        env_files.read(tmp_path / "missing.env")


def test_a_used_port_is_named_with_its_process_and_another_port(used_port: int) -> None:
    """The command that fixes it can be copied."""
    found = [each for each in machine.ports(ENV | {"LOKI_PORT": str(used_port)}) if each.what == f"port {used_port}"]
    assert found[0].state == BROKEN
    assert "is in use by pid" in found[0].said
    assert "LOKI_PORT=" in found[0].remedy


@pytest.mark.parametrize(("kilobytes", "state"), [(8_000_000, OK), (1_000_000, BROKEN)])
def test_memory_is_compared_with_the_requirement_of_the_suite(tmp_path: Path, kilobytes: int, state: str) -> None:
    """The remedy is the layer for small machines."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       24682356 kB\nMemAvailable:   {kilobytes} kB\n")
    found = machine.memory(meminfo)
    assert found.state == state
    assert ("minimal" in found.remedy) == (state == BROKEN)


def test_a_machine_without_docker_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program reports it without a stack trace."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [machine.docker().said, machine.compose().said] == ["does not answer", "does not answer"]


def test_podman_and_the_variables_that_choose_an_engine_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Podman's command may have the name docker; its version would be too old a Docker."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\nexit 1\n")
    engine.chmod(0o755)
    assert machine.docker().remedy.startswith("correct or unset DOCKER_HOST; ")
    engine.write_text("#!/bin/sh\necho podman version 4.9.3\n")
    found = machine.docker()
    assert (found.state, "Podman" in found.said) == (NOTE, True)


def test_an_old_version_of_compose_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would fail at the first tag that it does not know."""
    old = tmp_path / "docker"
    old.write_text("#!/bin/sh\necho v2.17.3\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compose().said == "v2.17.3 is too old"


def test_missing_credentials_are_named() -> None:
    """An empty value counts as missing."""
    found = env_files.credentials({"GRAFANA_CLOUD_TOKEN": "t"})
    assert {each.state for each in found} == {BROKEN}
    assert len(found) == len(env_files.required("docker-compose-cloud.yml")) - 1


def test_placeholders_are_named_by_signal(tmp_path: Path) -> None:
    """The committed file has four placeholders, and a copy with addresses has none."""
    committed = env_files.ROOT / env_files.CLOUD_ENDPOINTS
    assert [each.state for each in env_files.cloud_urls(committed)] == [BROKEN] * 4
    filled = tmp_path / "endpoints.json"
    text = committed.read_text()
    for name in ("metricsUrl", "logsUrl", "tracesUrl", "profilesUrl"):
        text = text.replace(f"<{name}>", f"https://{name}.example/push")
    filled.write_text(text)
    assert [each.state for each in env_files.cloud_urls(filled)] == [OK]


def test_a_file_of_addresses_that_is_not_json_is_named(tmp_path: Path) -> None:
    """A superfluous comma is found before Alloy starts."""
    broken = tmp_path / "endpoints.json"
    shutil.copy(env_files.ROOT / env_files.CLOUD_ENDPOINTS, broken)
    broken.write_text(broken.read_text()[:-3])
    (found,) = env_files.cloud_urls(broken)
    assert "cannot be read" in found.said


def test_an_unhealthy_container_is_named_with_its_exit_status() -> None:
    """A container that is still starting is only a note."""
    found = check(
        [
            Container("tempo", "running", "healthy"),
            Container("loki", "exited", "unhealthy", 137, out_of_memory=True),
            Container("mimir", "running", "unhealthy"),
            Container("alloy", "running", "starting", started="2026-01-01T00:00:00.123456789Z"),
        ]
    )
    findings = {each.what: (each.state, each.said) for each in found}
    assert findings["loki"] == (BROKEN, "exited with status 137, out of memory")
    assert findings["mimir"] == (BROKEN, "runs and is unhealthy")
    assert findings["alloy"][0] == NOTE
    assert "tempo" not in findings
