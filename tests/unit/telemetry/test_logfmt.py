"""The logfmt formatter is tested against an independent parser."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.telemetry.logs.records import logfmt
from tests.unit.telemetry.logfmt_grammar import NotLogfmt, parse

ANY = st.text(st.characters(codec=None))  # lone surrogates too
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,20}", fullmatch=True)


def valid_utf8(text: str) -> str:
    """Return a text with lone surrogates replaced, which UTF-8 cannot encode."""
    return re.sub(r"[\ud800-\udfff]", "\ufffd", text)


@settings(max_examples=150)
@given(st.dictionaries(KEYS, ANY, max_size=5))
def test_any_text_is_parsed_back_unchanged_and_adds_no_pair(fields: dict[str, str]) -> None:
    """The parser returns the same keys and values in the same order, so no value can be mistaken for a pair."""
    assert parse(logfmt(fields)) == [(key, valid_utf8(value)) for key, value in fields.items()]


@settings(max_examples=150)
@given(ANY, ANY)
def test_a_line_is_always_one_line_of_printable_text(key: str, value: str) -> None:
    """No key and no value can break the line, control a terminal, or fail to be encoded as UTF-8."""
    line = logfmt({key: value})
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line)
    assert len(parse(line)) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("unicorn", "unicorn"),
        ("/unicorn?limit", "/unicorn?limit"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nline\r\ttab", r'"line\nline\r\ttab"'),
        ("nul\0", r'"nul\u0000"'),
        ("\x1b[31mred", r'"\u001b[31mred"'),
        ("sep\u2028par\u2029nel\x85", r'"sep\u2028par\u2029nel\u0085"'),
        ("lone \ud800", '"lone \ufffd"'),
        ("Ægir 🦄", '"Ægir 🦄"'),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_values_are_unquoted_if_that_is_safe_and_quoted_otherwise(value: object, written: str) -> None:
    """Ambiguous values are quoted and escaped; others stay readable."""
    assert logfmt({"k": value}) == f"k={written}"


def test_none_is_left_out() -> None:
    """A caller may pass a field that is not always set."""
    assert logfmt({"a": 1, "error": None, "b": 2}) == "a=1 b=2"


def test_a_key_is_sanitized_and_never_empty() -> None:
    """A key cannot end itself and start another pair."""
    assert logfmt({'a b="': 1, "": 2, "http.method": 3}) == "a_b__=1 _=2 http.method=3"


@pytest.mark.parametrize("line", ["a", "a b=1", '"a"=1', "a=b=c", 'a="b"c', 'a="b', "a=1  b=2", 'a="\n"', r'a="\x"'])
def test_the_parser_of_these_tests_rejects_text_that_is_not_logfmt(line: str) -> None:
    """If it were lenient, the tests above would prove nothing."""
    with pytest.raises(NotLogfmt):
        parse(line)
