"""What a request may ask for: tables of good and bad input."""

import pytest
from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as st

from common.web.problems import Problem
from services.server.request_parsing import MAX_ID, parse_name, parse_page

JSON = "application/json"
APP = Flask("test")


def name_in(body: bytes | str, content_type: str = JSON) -> str:
    """The name that a request with this body asks for."""
    with APP.test_request_context("/x", method="POST", data=body, content_type=content_type):
        return parse_name(request)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"name": "x"}', "x"),
        ('{"name": "sly otter", "other": 1}', "sly otter"),
        ('{"name": "Ægir 🦄 日本"}', "Ægir 🦄 日本"),
        ('{"name": "\\ud83e\\udd84"}', "🦄"),
        ('{"name": "' + "x" * 50 + '"}', "x" * 50),
        ('{"name": "' + "🦄" * 50 + '"}', "🦄" * 50),
        ('{"name": "Robert\'); DROP TABLE unicorn;--"}', "Robert'); DROP TABLE unicorn;--"),
        ('{"name": "first", "name": "last"}', "last"),
    ],
)
def test_a_usable_name_is_taken_as_it_is(body: str, name: str) -> None:
    """Up to 50 characters, not bytes, as the column counts."""
    assert name_in(body.encode()) == name


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        '"x"',
        "7",
        "{}",
        '{"name": null}',
        '{"name": ""}',
        '{"name": "   "}',
        '{"name": 7}',
        '{"name": true}',
        '{"name": ["x"]}',
        '{"name": {"name": "x"}}',
        '{"Name": "x"}',
        '{"name": "' + "x" * 51 + '"}',
        '{"name": "' + "🦄" * 51 + '"}',
        '{"name": "a\\u0000b"}',
        '{"name": "a\\nb"}',
        '{"name": "a\\u001b[31m"}',
        '{"name": "a\\u007f"}',
        '{"name": "a\\u2028b"}',
        '{"name": "\\ud800"}',
        '{"name": "\\udc00x"}',
        '{"name": ' + "9" * 5000 + "}",
        "[" * 10_000,
        '{"name": ' * 2_000,
        '{"name": "x"} trailing',
        "\ufeff",
        "{'name': 'x'}",
        '{"name": "a\nb"}',
        b'{"name": "\xff"}',
        b'\x00\x01\x02{"name"',
    ],
)
def test_a_body_without_a_usable_name_is_refused_with_a_sentence(body: bytes | str) -> None:
    """400 and what to send; nothing of it can health the database or raise anything else."""
    with pytest.raises(Problem) as refusal:
        name_in(body.encode() if isinstance(body, str) else body)
    assert refusal.value.status == 400
    assert refusal.value.detail.endswith(".")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_kind_is_not_guessed_at(content_type: str) -> None:
    """415: JSON is asked for by name."""
    with pytest.raises(Problem) as refusal:
        name_in(b'{"name": "x"}', content_type)
    assert refusal.value.status == 415


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.text(st.characters(codec="utf-8"), max_size=100).map(str.encode))
def test_no_body_raises_anything_but_a_problem(body: bytes) -> None:
    """Whatever the bytes are, the answer is a name or a 400."""
    try:
        name = name_in(body)
    except Problem as refusal:
        assert refusal.status == 400  # noqa: PT017 - a name is as good an outcome
    else:
        assert 0 < len(name) <= 50


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        ({}, (100, None)),
        ({"limit": "1"}, (1, None)),
        ({"limit": "1000"}, (1000, None)),
        ({"limit": "0100"}, (100, None)),
        ({"before": "1"}, (100, 1)),
        ({"limit": "10", "before": str(MAX_ID)}, (10, 2_147_483_647)),
        ({"other": "x"}, (100, None)),
    ],
)
def test_a_page_is_a_hundred_names_unless_told_otherwise(
    arguments: dict[str, str], page: tuple[int, int | None]
) -> None:
    """At most a thousand, of those before an id."""
    assert parse_page(arguments) == page


BAD_NUMBERS = [
    "",
    "0",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1.0",
    "1e2",
    "x",
    "0x10",
    "1_0",
    "\u0661\u0662",
    "\uff11",
    "²",
    "1\0",
    "9" * 5000,
    "None",
]


@pytest.mark.parametrize("name", ["limit", "before"])
@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_a_number_that_is_none_is_refused_with_its_range(name: str, text: str) -> None:
    """Digits of other scripts, signs and underscores, which int() would take, included."""
    with pytest.raises(Problem, match=f"^{name} must be a whole number from 1 to ") as refusal:
        parse_page({name: text})
    assert refusal.value.status == 400


@pytest.mark.parametrize("arguments", [{"limit": "1001"}, {"before": str(MAX_ID + 1)}])
def test_a_number_out_of_range_is_refused(arguments: dict[str, str]) -> None:
    """An id above that of a serial would be an error of the database."""
    with pytest.raises(Problem):
        parse_page(arguments)
