"""The doctor's report fits a terminal, and its exit status is 1 if something is broken."""

import json
import subprocess

import pytest

from doctor.report import (
    BROKEN,
    FAILED,
    FRESH,
    LATE,
    MISSING,
    NOTE,
    OFF,
    PASSED,
    SENT,
    Cell,
    Fault,
    Finding,
    Report,
    text,
)

FAULT = Fault(
    "mythical-server",
    "it does not answer at http://127.0.0.1:4000: its container exited with status 137, out of memory",
    "docker compose up -d mythical-server; docker compose logs --tail 20 mythical-server",
)
FINDING = Finding(
    "port 3100",
    "is in use by pid 1234 (python -m local.gateway --loki …)",
    BROKEN,
    "stop it, or use another port: LOKI_PORT=13100 docker compose up",
)
SIGNALS = ("traces", "metrics", "logs", "profiles")


def complete_report() -> Report:
    """Return a report with findings and cells of every state."""
    cells = [Cell("mythical-requester", signal, FRESH, 3.2) for signal in SIGNALS]
    cells += [Cell("mythical-server", signal, LATE, 3599.0, FAULT) for signal in SIGNALS[:3]]
    cells += [Cell("mythical-server", "profiles", MISSING, None, FAULT)]
    return Report("docker", [FINDING], cells)


def test_no_line_is_wider_than_a_terminal() -> None:
    """Lines are at most 80 columns wide; a terminal would wrap longer ones, which makes the table unreadable."""
    lines = list(text(complete_report()))
    assert max(map(len, lines)) <= 80


def test_each_fault_is_reported_once_with_all_signals_that_it_stops() -> None:
    """A container that stops four signals is one problem to fix."""
    report = "\n".join(text(complete_report()))
    assert report.count("broken at:") == 1
    assert "traces, metrics, logs, profiles of mythical-server" in report


def test_each_command_is_on_a_separate_line() -> None:
    """The user can copy it."""
    lines = [line.strip() for line in text(complete_report())]
    assert "do:        docker compose up -d mythical-server" in lines
    assert "docker compose logs --tail 20 mythical-server" in lines


def test_a_long_command_can_be_copied_as_it_is_printed() -> None:
    """A shell joins the printed lines to the command."""
    command = "docker compose exec mythical-database psql -U postgres -f /docker-entrypoint-initdb.d/a-long-name.sql"
    *_, first, second, _, _ = text(Report("docker", [Finding("metrics of postgres", "", BROKEN, command)]))
    assert max(len(first), len(second)) <= 80
    joined = subprocess.check_output(["sh", "-c", f"echo {first.partition('do:')[2]}\n{second}"], text=True)  # noqa: S603, S607
    assert joined.split() == command.split()


@pytest.mark.parametrize(
    ("report", "status"),
    [
        (Report("none", [Finding("disk", "enough")]), PASSED),
        (Report("none", [Finding("disk", "little", NOTE)]), PASSED),
        (Report("none", [FINDING]), FAILED),
        (Report("docker", [], [Cell("mythical-server", "logs", FRESH, 1.0)]), PASSED),
        (Report("docker", [], [Cell("mythical-server", "profiles", OFF)]), PASSED),
        (Report("docker", [], [Cell("mythical-server", "traces", SENT)]), PASSED),
        (Report("docker", [], [Cell("mythical-server", "logs", LATE, 90.0, FAULT)]), FAILED),
        (Report("docker", [], [Cell("mythical-server", "logs", MISSING, None, FAULT)]), FAILED),
    ],
)
def test_the_status_is_1_if_something_is_broken(report: Report, status: int) -> None:
    """A note or a disabled signal does not fail a script."""
    assert report.status == status
    assert next(reversed(list(text(report)))) == ("All checks passed." if status == PASSED else "Some checks failed.")


def test_the_json_report_has_the_same_content() -> None:
    """Each cell has the hop of its fault."""
    read = json.loads(json.dumps(complete_report().as_json()))
    assert (read["suite"], read["status"], len(read["cells"])) == ("docker", FAILED, 8)
    assert read["cells"][-1]["fault"]["hop"] == "mythical-server"
    assert read["cells"][-1]["age_s"] is None
