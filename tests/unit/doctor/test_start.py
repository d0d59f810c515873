"""What would keep the suite from starting is named, with what to do about it."""

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
def taken() -> Iterator[int]:
    """Give a port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_the_values_that_are_committed_are_complete() -> None:
    """Nothing is to be set before the first start."""
    assert [finding.state for finding in env_files.check(ENV)] == [OK]


@pytest.mark.parametrize("value", ["", "abc", "0", "70000", "-1", "9" * 5000])
def test_a_port_that_is_none_is_named(value: str) -> None:
    """With the variable; compose would say that the whole file is wrong."""
    (found,) = env_files.check(ENV | {"LOKI_PORT": value})
    assert found.state == BROKEN
    assert "LOKI_PORT" in found.said


def test_two_ports_that_are_the_same_are_named() -> None:
    """The second container would fail to start, for a reason that looks like somebody else's fault."""
    (found,) = env_files.check(ENV | {"LOKI_PORT": ENV["TEMPO_PORT"]})
    assert found.said == f"TEMPO_PORT and LOKI_PORT are both {ENV['TEMPO_PORT']}"


def test_the_shell_wins_over_the_file_and_a_later_file_over_an_earlier_one(tmp_path: Path) -> None:
    """As with docker compose."""
    one, other = tmp_path / "one.env", tmp_path / "other.env"
    one.write_text("# LOKI_PORT=0\nLOKI_PORT=1\nTEMPO_PORT=1 # why\nMIMIR_PORT='1'\n")
    other.write_text("LOKI_PORT=2\nTEMPO_PORT=2\n")
    told = env_files.values({"LOKI_PORT": "3", "MIMIR_PORT": ""}, [one, other])
    assert told | {"LOKI_PORT": "3", "TEMPO_PORT": "2", "MIMIR_PORT": "1"} == told


def test_a_file_that_is_not_there_cannot_be_used(tmp_path: Path) -> None:
    """A slip in its name is not taken for an empty file."""
    with pytest.raises(Unusable, match=r"gone\.env: No such file"):
        env_files.read(tmp_path / "gone.env")


def test_a_taken_port_is_named_with_its_holder_and_another_port(taken: int) -> None:
    """The line that mends it can be copied."""
    found = [each for each in machine.ports(ENV | {"LOKI_PORT": str(taken)}) if each.what == f"port {taken}"]
    assert found[0].state == BROKEN
    assert "is in use by pid" in found[0].said
    assert "LOKI_PORT=" in found[0].remedy


@pytest.mark.parametrize(("kilobytes", "state"), [(8_000_000, OK), (1_000_000, BROKEN)])
def test_memory_is_compared_with_what_the_suite_holds(tmp_path: Path, kilobytes: int, state: str) -> None:
    """And the layer for small machines is offered."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       24682356 kB\nMemAvailable:   {kilobytes} kB\n")
    found = machine.memory(meminfo)
    assert found.state == state
    assert ("minimal" in found.remedy) == (state == BROKEN)


def test_a_machine_without_docker_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a finding, not with a stack trace."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [machine.docker().said, machine.compose().said] == ["does not answer", "does not answer"]


def test_an_old_compose_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would stop at the first tag that it does not know."""
    old = tmp_path / "docker"
    old.write_text("#!/bin/sh\necho v2.17.3\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compose().said == "v2.17.3 is too old"


def test_credentials_that_are_missing_are_named() -> None:
    """An empty file is as good as none."""
    found = env_files.credentials({"GRAFANA_CLOUD_TOKEN": "t"})
    assert {each.state for each in found} == {BROKEN}
    assert len(found) == len(env_files.required("docker-compose-cloud.yml")) - 1


def test_placeholders_are_named_by_signal(tmp_path: Path) -> None:
    """The committed file has four of them, and a copy with addresses none."""
    committed = env_files.ROOT / env_files.CLOUD_ENDPOINTS
    assert [each.state for each in env_files.cloud_urls(committed)] == [BROKEN] * 4
    mended = tmp_path / "endpoints.json"
    text = committed.read_text()
    for name in ("metricsUrl", "logsUrl", "tracesUrl", "profilesUrl"):
        text = text.replace(f"<{name}>", f"https://{name}.example/push")
    mended.write_text(text)
    assert [each.state for each in env_files.cloud_urls(mended)] == [OK]


def test_a_file_of_addresses_that_is_no_json_is_named(tmp_path: Path) -> None:
    """A comma too many is found before Alloy finds it."""
    broken = tmp_path / "endpoints.json"
    shutil.copy(env_files.ROOT / env_files.CLOUD_ENDPOINTS, broken)
    broken.write_text(broken.read_text()[:-3])
    (found,) = env_files.cloud_urls(broken)
    assert "cannot be read" in found.said


def test_a_container_that_is_not_well_is_named_with_how_it_ended() -> None:
    """One that only starts is worth saying, and no more."""
    found = check(
        [
            Container("tempo", "running", "healthy"),
            Container("loki", "exited", "unhealthy", 137, out_of_memory=True),
            Container("mimir", "running", "unhealthy"),
            Container("alloy", "running", "starting", started="2026-01-01T00:00:00.123456789Z"),
        ]
    )
    said = {each.what: (each.state, each.said) for each in found}
    assert said["loki"] == (BROKEN, "exited with status 137, out of memory")
    assert said["mimir"] == (BROKEN, "runs and is unhealthy")
    assert said["alloy"][0] == NOTE
    assert "tempo" not in said
