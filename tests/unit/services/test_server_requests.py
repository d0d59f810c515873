"""Parameters and bodies of requests are parsed, and invalid ones are rejected."""

import pytest
from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as st

from common.web.problems import Problem
from services.server.request_parsing import MAX_ID, parse_name, parse_page

JSON = "application/json"
APP = Flask("test")


def name_in(body: bytes | str, content_type: str = JSON) -> str:
    """Return the name in a request with this body."""
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
def test_a_valid_name_is_accepted_unchanged(body: str, name: str) -> None:
    """The limit of 50 counts characters, not bytes, like the column."""
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
def test_a_body_without_a_valid_name_is_rejected_with_a_sentence(body: bytes | str) -> None:
    """The status is 400 with a remedy; no body reaches the database or raises another exception."""
    with pytest.raises(Problem) as rejection:
        name_in(body.encode() if isinstance(body, str) else body)
    assert rejection.value.status == 400
    assert rejection.value.detail.endswith(".")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_content_type_is_rejected(content_type: str) -> None:
    """The status is 415: JSON must be declared."""
    with pytest.raises(Problem) as rejection:
        name_in(b'{"name": "x"}', content_type)
    assert rejection.value.status == 415


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.text(st.characters(codec="utf-8"), max_size=100).map(str.encode))
def test_no_body_raises_anything_but_a_problem(body: bytes) -> None:
    """The result is a name or a 400."""
    try:
        name = name_in(body)
    except Problem as rejection:
        assert rejection.status == 400  # noqa: PT017 - a name is as good an outcome
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
def test_the_default_page_has_a_hundred_names(arguments: dict[str, str], page: tuple[int, int | None]) -> None:
    """The maximum is a thousand; `before` selects names before an ID."""
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
def test_an_invalid_number_is_rejected_with_its_range(name: str, text: str) -> None:
    """Digits of other scripts, signs, and underscores are invalid, although int() accepts them."""
    with pytest.raises(Problem, match=f"^{name} must be a whole number from 1 to ") as rejection:
        parse_page({name: text})
    assert rejection.value.status == 400


@pytest.mark.parametrize("arguments", [{"limit": "1001"}, {"before": str(MAX_ID + 1)}])
def test_a_number_out_of_range_is_rejected(arguments: dict[str, str]) -> None:
    """An ID above the maximum of a serial would be an error of the database."""
    with pytest.raises(Problem):
        parse_page(arguments)
