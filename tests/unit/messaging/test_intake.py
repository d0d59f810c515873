"""Taking messages, in orders a real broker shows only by chance."""

from typing import Any, cast

from common.messaging import Broker
from common.messaging.depth import DepthProbe
from common.messaging.intake import Intake
from common.messaging.owner import Owner


class Silent:
    """Stands in for a channel, for the probe of depths and for the owner: takes everything and answers nothing."""

    is_open = True

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: self

    def basic_consume(self, *_: Any, callback: Any) -> str:
        """Agree at once."""
        callback(None)
        return "tag"


def test_a_connection_lost_while_it_stops_is_a_stop() -> None:
    """The answer to the cancel will never come; waiting for it would take all the time that there is for the end."""
    silent: Any = Silent()
    intake = Intake(
        cast(Owner, silent), Broker("mq"), "messages", prefetch=1, take=lambda _: None, depth=cast(DepthProbe, silent)
    )
    intake.on_up(silent)
    assert intake.ready
    told: list[str] = []
    intake.stop(lambda: told.append("stopped"))
    assert told == []
    intake.on_down()
    assert told == ["stopped"]
