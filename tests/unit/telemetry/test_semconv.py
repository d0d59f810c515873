"""The three generations of span names."""

import os

import pytest

from common.core.env import Env
from common.telemetry.semconv import VARIABLE, Conventions, conventions, pin_semconv_mode

BOTH = Conventions(old_http=True, new_http=True, old_database=True, new_database=True)
NEW = Conventions(old_http=False, new_http=True, old_database=False, new_database=True)
OLD = Conventions(old_http=True, new_http=False, old_database=True, new_database=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", BOTH),
        ("http/dup,database/dup", BOTH),
        (" http/dup , database/dup ", BOTH),
        ("http,database", NEW),
        ("none", OLD),
        ("http", Conventions(old_http=False, new_http=True, old_database=True, new_database=False)),
        ("database", Conventions(old_http=True, new_http=False, old_database=False, new_database=True)),
        ("gen_ai_latest_experimental", OLD),
        ("http,http/dup,database,database/dup", BOTH),
    ],
)
def test_the_standard_variable_chooses_old_new_or_both(value: str, expected: Conventions) -> None:
    """By default both, for dashboards old and new; `/dup` wins over the bare word, as the conventions say."""
    assert conventions(Env({VARIABLE: value})) == expected


@pytest.mark.parametrize("before", [None, "http/dup"])
@pytest.mark.parametrize("chosen", [BOTH, NEW, OLD])
def test_the_variable_stands_again_as_it_was(
    chosen: Conventions, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is lent to the instrumentations for a moment; later readers find what the user set."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if before:
        monkeypatch.setenv(VARIABLE, before)
    with pin_semconv_mode(chosen):
        assert os.environ[VARIABLE] == ("http" if chosen.new_http else "default")
    assert os.environ.get(VARIABLE) == before
