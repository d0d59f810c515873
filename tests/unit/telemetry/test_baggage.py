"""Marks of synthetic requests are accepted from a client's baggage, and other values are not."""

import pytest
from opentelemetry import propagate

from common.telemetry.semconv import ALLOWED, SHAPE, SYNTHETIC, USER_KIND, synthetic_attributes
from loadtest.settings import KINDS
from loadtest.shapes import SHAPES


def test_the_marks_of_the_load_are_accepted() -> None:
    """Other members of the header and properties of members do not matter."""
    header = "tenant=7, user_agent.synthetic.type=test;why=load ,loadtest.shape=spike,loadtest.user.kind=keeper"
    assert synthetic_attributes(propagate.extract({"baggage": header})) == {
        SYNTHETIC: "test",
        SHAPE: "spike",
        USER_KIND: "keeper",
    }


@pytest.mark.parametrize(
    "header",
    [
        "",
        "user_agent.synthetic.type=me",
        "user_agent.synthetic.type=",
        "user_agent.synthetic.type",
        "loadtest.shape=spike",
        ",,,=,;=",
        "user_agent.synthetic.type=test" + "," * 9000,
        "a=b," * 180 + "user_agent.synthetic.type=test",
    ],
)
def test_unknown_values_are_not_marks(header: str) -> None:
    """Values of the client, a kind or shape without the type, and members above the propagator's limits are ignored."""
    assert synthetic_attributes(propagate.extract({"baggage": header})) == {}


def test_the_lists_are_those_of_the_load() -> None:
    """A shape that is added there must be added here."""
    assert ALLOWED[USER_KIND] == set(KINDS)
    assert ALLOWED[SHAPE] == set(SHAPES)
