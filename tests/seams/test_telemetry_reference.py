"""docs/reference/telemetry.md lists every span, metric, event, and log field of the code, and no others."""

import re

import pytest

from common.telemetry.process import resource
from tests.seams.source_reading import Instrument, events, instruments, log_fields, span_names
from tests.seams.tree import ROOT, rows, sections, texts, words

PAGE = (ROOT / "docs/reference/telemetry.md").read_text(encoding="utf-8")
SECTIONS = dict(sections(PAGE))

# Composed at run time; test_telemetry_made.py emits some and compares.
COMPOSED = {"<method> <route>", "<operation> <table>", "<method>"}


def column(heading: str, name: str) -> list[str]:
    """Return the texts in code format in a column of the table under a heading."""
    return [word for row in rows(SECTIONS[heading]) for word in words(row[name])]


def test_metrics_are_those_that_the_code_creates() -> None:
    """Name, kind, and unit are the same."""
    documented = {
        Instrument(words(row["Metric"])[0], row["Kind"], "".join(words(row["Unit"])))
        for row in rows(SECTIONS["Metrics"])
    }
    assert documented == instruments()


def test_spans_are_those_that_the_code_starts() -> None:
    """Some have constant names; the others are composed from the request or the statement."""
    assert set(column("Spans", "Span")) == span_names() | COMPOSED


def test_each_span_has_its_attributes() -> None:
    """The page has one table of attributes for each span."""
    for name in column("Spans", "Span"):
        headings = [heading for heading in SECTIONS if heading == f"`{name}`"]
        assert len(headings) == 1, name
        assert rows(SECTIONS[headings[0]])


def test_events_are_those_that_the_code_logs() -> None:
    """The text of an event is constant, so that it can be searched for."""
    assert set(column("Events", "Text")) == events()


def test_log_fields_are_those_that_the_code_writes() -> None:
    """Each has its place and its meaning."""
    assert set(column("Fields of a line", "Field")) == log_fields()


def test_the_resource_is_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page lists every attribute and no others."""
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert set(column("Resource", "Attribute")) == set(resource("mythical-server", "production").attributes)


ATTRIBUTE = re.compile(
    r'"((?:http|url|net|network|client|server|user_agent|db|messaging|error|peer|service)\.[a-z_.]+)"'
)


def test_every_attribute_in_the_code_is_on_the_page() -> None:
    """Attributes of a span, a metric, or a resource whose names are those of the semantic conventions."""
    known = set(re.findall(r"`([^`]+)`", PAGE))
    for name, text in texts(".py"):
        if name.startswith(("common/", "services/")):
            unknown = set(ATTRIBUTE.findall(text)) - known
            assert not unknown, f"{name} has {unknown}"
