"""The standard variable selects old, new, or both semantic conventions."""

import os

import pytest

from common.core.env import Env
from common.telemetry.settings import BOTH_SEMCONVS as BOTH_WORDS
from common.telemetry.settings import SEMCONV_VARIABLE, Conventions, conventions, set_default_conventions

BOTH_SEMCONVS = Conventions(old_http=True, new_http=True, old_database=True, new_database=True)
NEW = Conventions(old_http=False, new_http=True, old_database=False, new_database=True)
OLD = Conventions(old_http=True, new_http=False, old_database=True, new_database=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", BOTH_SEMCONVS),
        ("http/dup,database/dup", BOTH_SEMCONVS),
        (" http/dup , database/dup ", BOTH_SEMCONVS),
        ("http,database", NEW),
        ("none", OLD),
        ("http", Conventions(old_http=False, new_http=True, old_database=True, new_database=False)),
        ("database", Conventions(old_http=True, new_http=False, old_database=False, new_database=True)),
        ("gen_ai_latest_experimental", OLD),
        ("http,http/dup,database,database/dup", BOTH_SEMCONVS),
    ],
)
def test_the_standard_variable_selects_old_new_or_both(value: str, expected: Conventions) -> None:
    """The default is both, for old and new dashboards; `/dup` takes precedence, as the conventions require."""
    assert conventions(Env({SEMCONV_VARIABLE: value})) == expected


@pytest.mark.parametrize(("before", "after"), [(None, BOTH_WORDS), ("", BOTH_WORDS), ("http", "http"), ("x", "x")])
def test_the_default_is_set_for_the_instrumentation_libraries(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read the variable themselves; a value of the user is kept."""
    monkeypatch.setenv(SEMCONV_VARIABLE, "")
    if before is None:
        monkeypatch.delenv(SEMCONV_VARIABLE)
    else:
        monkeypatch.setenv(SEMCONV_VARIABLE, before)
    set_default_conventions()
    assert os.environ[SEMCONV_VARIABLE] == after
