"""The recorder handles one message: it parses, works, counts, and logs."""

import logging
import random

import pytest

from common.core.endpoints import BORING, MYTHICAL, EndpointSet
from common.faults import SLOW_PROCESSING, Faults
from common.messaging.errors import PoisonMessage
from common.messaging.handler import Message
from services.recorder.message_handler import MessageHandler
from tests.unit.services.recorded import Recorded, attributes


class Rig:
    """A message handler, its delays, and its telemetry."""

    def __init__(self, slow: float = 0, of: EndpointSet = MYTHICAL) -> None:
        self.telemetry, self.slept = Recorded(), list[float]()
        faults = Faults({SLOW_PROCESSING.name: slow}, random.Random(1))  # noqa: S311 - not for secrets
        self._handler = MessageHandler(of, self.telemetry.meter, faults, self.slept.append)

    def record(self, text: str, attempt: int = 1) -> None:
        """Handle a message within a span, like the consumer."""
        message = Message(text, text.encode(), "id", {}, redelivered=False, attempt=attempt)
        with self.telemetry.tracer.start_as_current_span("process_message"):
            self._handler.handle(message)

    @property
    def recorded(self) -> int:
        """Return the value of the counter."""
        return sum(int(point.value) for _, point in self.telemetry.points("mythical_messages_recorded"))


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("GET /unicorn", "GET"),
        ("DELETE /unicorn sly otter", "DELETE"),
        ('POST /unicorn {"name": "sly_otter"}', "POST"),
        ('POST /unicorn {"name": "two\nlines"}', "POST"),
    ],
)
def test_the_three_forms_of_a_message_are_recorded(text: str, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """A message is counted once, and the span and the log line have the beast."""
    caplog.set_level(logging.INFO)
    rig = Rig()
    rig.record(text, attempt=2)
    assert rig.recorded == 1
    assert attributes(rig.telemetry.span)["beast"] == "unicorn"
    (line,) = caplog.records
    assert line.__dict__["fields"] == {
        "http.method": method,
        "endpoint": "unicorn",
        "status": "SUCCESS",
        "attempt": 2,
        "message_id": "id",
    }
    assert line.__dict__["tags"] == {"beast": "unicorn"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET",
        "GET /",
        "GET /dragon",
        "PUT /unicorn",
        "GET/unicorn",
        "GET /unicorn\n",
        "GET /UNICORN",
        "get /unicorn",
        " GET /unicorn",
        "{}",
        "GET /unicornX y",
    ],
)
def test_any_other_text_is_poison(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A retry cannot succeed: the message is dead-lettered and not counted, and its text is not logged."""
    rig = Rig()
    with pytest.raises(PoisonMessage) as poison:
        rig.record(text)
    assert rig.recorded == 0
    assert rig.slept == []
    assert not text or text not in str(poison.value)
    assert caplog.records == []


@pytest.mark.parametrize("beast", MYTHICAL.names)
def test_work_takes_20_to_50_milliseconds(beast: str) -> None:
    """This holds for every beast while the fault slow_processing is 0."""
    rig = Rig(slow=0)
    for _ in range(50):
        rig.record(f"GET /{beast}")
    assert 0.02 <= min(rig.slept) <= max(rig.slept) <= 0.05


@pytest.mark.parametrize(
    ("beast", "slow"), [("unicorn", True), ("beholder", True), ("owlbear", False), ("illithid", False)]
)
def test_messages_of_slow_beasts_take_longer_when_the_fault_is_on(beast: str, slow: bool) -> None:
    """With the fault slow_processing at 1, beholder and unicorn take 0.5 to 1.5 s longer."""
    rig = Rig(slow=1)
    for _ in range(50):
        rig.record(f"GET /{beast}")
    assert (min(rig.slept) >= 0.52) is slow
    assert (max(rig.slept) <= 0.05) is not slow
    assert max(rig.slept) <= 1.55


def test_the_boring_catalogue_has_other_messages() -> None:
    """With ENDPOINT_TYPE=BORING, a message about a beast is poison."""
    rig = Rig(of=BORING)
    rig.record("GET /login")
    assert attributes(rig.telemetry.span)["endpoint"] == "login"
    with pytest.raises(PoisonMessage):
        rig.record("GET /unicorn")
