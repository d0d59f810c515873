"""Settings of the shell and the system that affect the suite are reported with a remedy."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from doctor.report import BROKEN, NOTE
from doctor.surroundings import check_database, check_files, check_selinux, check_shell


def test_an_ordinary_shell_is_not_mentioned() -> None:
    """Variables that are meant for the suite are not mentioned either."""
    assert list(check_shell({"PATH": "/bin", "http_proxy": "", "PGSSLMODE": "require", "LOAD_USERS": "3"})) == []


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HTTPS_PROXY": "http://user:s3cret@proxy:1"}, "HTTPS_PROXY: addresses outside this machine"),
        ({"PGHOST": "x", "LOCUST_USERS": "1", "FLASK_APP": "x"}, "FLASK_APP, LOCUST_USERS, PGHOST: the suite ignores"),
        ({f"PGVAR{number}": "x" for number in range(9)}, "PGVAR4 and 4 more: the suite ignores"),
        ({"COMPOSE_FILE": "x.yml", "COMPOSE_PROFILES": "x"}, "COMPOSE_FILE: Compose reads other files"),
        ({"SSL_CERT_FILE": "/missing"}, "SSL_CERT_FILE=/missing cannot be read"),
    ],
)
def test_a_variable_with_an_unexpected_effect_is_a_note(environ: dict[str, str], message: str) -> None:
    """It is not an error, because the suite works with it."""
    (found,) = check_shell(environ)
    assert found.state == NOTE
    assert message in found.said
    assert "s3cret" not in found.said


def test_a_low_limit_of_open_files_is_named_and_a_soft_limit_is_raised() -> None:
    """The doctor and the demo name the command that raises it."""
    program = """
import resource
from doctor.surroundings import check_shell
from local.errors import LocalError
from local.state import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print(len(list(check_shell({}))))
raise_file_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(*(finding.remedy for finding in check_shell({})))
try:
    raise_file_limit()
except LocalError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    assert done.stdout.splitlines() == [
        "0",
        "(300, 300)",
        "ulimit -n 1024",
        "a process may open 64 files, 128 are needed; raise the limit: ulimit -n 1024",
    ]


def test_files_that_the_users_of_containers_cannot_read_are_named(tmp_path: Path) -> None:
    """A clone with umask 077 has such files; the remedy is complete."""
    (tmp_path / "docker-compose.yml").write_text(
        "services:\n  a:\n    volumes:\n      - ./alloy:/etc/alloy:ro,z\n      - ./rabbitmq/one.conf:/one.conf:ro\n"
        "      - data:/data\n      - ./gone:/gone\n"
    )
    for folder in ("alloy", "rabbitmq", "docs"):
        (tmp_path / folder).mkdir(mode=0o700)
    for file in ("alloy/a.alloy", "rabbitmq/one.conf", "docs/page.md"):
        (tmp_path / file).touch(mode=0o600)
    (found,) = check_files(tmp_path)
    assert found.state == BROKEN
    assert found.said.startswith("alloy and 2 more cannot be read")
    assert found.remedy == "chmod -R a+rX alloy rabbitmq"
    for path in (*tmp_path.glob("alloy"), *tmp_path.glob("rabbitmq"), *tmp_path.glob("[ar]*/*")):
        path.chmod(0o755)
    assert check_files(tmp_path) == []


@pytest.mark.parametrize(("content", "notes"), [("1", 1), ("0", 0), (None, 0)])
def test_selinux_is_noted_if_it_is_enforcing(tmp_path: Path, content: str | None, notes: int) -> None:
    """If it is permissive or absent, it hides no files."""
    enforce = tmp_path / "enforce"
    if content is not None:
        enforce.write_text(content)
    assert [each.state for each in check_selinux(enforce)] == [NOTE] * notes


def _docker(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize("by_container", [True, False])
@pytest.mark.parametrize(("image", "findings"), [("postgres:18.1", 1), ("postgres:17.10", 0), ("mine@sha256:1f", 0)])
def test_data_of_an_older_postgres_are_reported_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_container: bool, image: str, findings: int
) -> None:
    """The version is in the volume and is copied from a container or read as root; the new server would only exit."""
    (tmp_path / "PG_VERSION").write_text("17\n")
    with tarfile.open(tmp_path / "tar", "w") as tar:
        entry = tarfile.TarInfo("PG_VERSION")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"17\n"))
    copied = f'[ "$1" = cp ] && exec cat {tmp_path}/tar'
    inspected = f'[ "$1" = volume ] && exec echo {tmp_path}'
    _docker(tmp_path, f"{copied if by_container else inspected}\nexit 1", monkeypatch)
    found = check_database({"POSTGRES_IMAGE": image})
    assert [each.state for each in found] == [BROKEN] * findings
    assert all("the data are of Postgres 17" in each.said for each in found)


def test_without_docker_or_data_there_are_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first start, the volume does not exist."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_database({"POSTGRES_IMAGE": "postgres:17.10"}) == []
