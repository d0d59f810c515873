"""A number that a page repeats is the same as on the page that has it first."""

import re

import pytest

from local.ports import DEFAULTS
from tests.seams.tree import ROOT, rows, sections

# A number with a fraction, a separator of thousands, or at least three digits.
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+|\d+\.\d+|\d{3,}")


def page(name: str) -> str:
    """Return the text of a file."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("summary", "heading", "evidence"),
    [
        ("docs/reliability.md", "Guarantees", "docs/appendix/failure-tests.md"),
        ("docs/benchmarks.md", "Benchmarks", "docs/appendix/measurements.md"),
    ],
)
def test_the_figures_of_a_summary_are_those_of_its_evidence(summary: str, heading: str, evidence: str) -> None:
    """A summary that has other figures than its appendix is outdated."""
    measured = set(NUMBER.findall(page(evidence)))
    claims = [row["measured"] for row in rows(dict(sections(page(summary)))[heading])]
    assert len(claims) > 5
    for claim in claims:
        assert set(NUMBER.findall(claim)) <= measured, claim


def test_the_total_memory_of_the_containers_is_the_sum_of_the_table() -> None:
    """Rounding errors are accepted."""
    section = dict(sections(page("docs/compose.md")))["Containers"]
    parts = [int(row["memory"].removesuffix(" MiB")) for row in rows(section)]
    total = re.search(r"The total is (\d+) MiB", section)
    assert total
    assert abs(sum(parts) - int(total[1])) <= len(parts) / 2
    assert f"{total[1]} MiB" in page("docs/appendix/measurements.md")


def test_the_addresses_of_the_demo_in_the_readme_are_its_default_ports() -> None:
    """The ports of each service, page, and Locust."""
    section = dict(sections(page("README.md")))["Two commands, without Docker"]
    shown = {int(port) for row in rows(section) for port in re.findall(r"127\.0\.0\.1:(\d+)", row["address"])}
    by_name = {name: number for name, _, number in DEFAULTS}
    assert shown == {
        number for name, number in by_name.items() if not name.startswith(("OTLP", "Loki", "Pyroscope", "Faro"))
    }
