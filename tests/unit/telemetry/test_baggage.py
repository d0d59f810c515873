"""The marks of synthetic requests: what is taken over from a caller, and what is not."""

import pytest
from opentelemetry import propagate

from common.telemetry.semconv import ALLOWED, SHAPE, SYNTHETIC, USER_KIND, synthetic_attributes
from loadtest.settings import KINDS
from loadtest.shapes import SHAPES


def test_the_marks_of_the_load_are_taken_over() -> None:
    """Whatever else is in the header, and whatever properties members have."""
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
def test_what_is_not_known_makes_no_mark(header: str) -> None:
    """No value of a caller's making, no kind or shape without the type, and nothing beyond the propagator's limits."""
    assert synthetic_attributes(propagate.extract({"baggage": header})) == {}


def test_the_lists_are_those_of_the_load() -> None:
    """A shape that is added there would else be missing here."""
    assert ALLOWED[USER_KIND] == set(KINDS)
    assert ALLOWED[SHAPE] == set(SHAPES)
