"""A publisher without capacity returns an error for a message."""

from queue import SimpleQueue

from opentelemetry import context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from common.messaging.errors import BrokerUnavailable, MessagingError, TooManyInFlight
from common.messaging.publisher import Publisher
from common.messaging.topology import Broker

NO_BROKER = Broker("127.0.0.1", port=1)


class RecoversMeanwhile(Publisher):
    """A publisher whose error is None when it is read a second time."""

    reads = 0

    @property
    def last_error(self) -> MessagingError | None:
        """Return the error, which another thread may change at any time."""
        self.reads += 1
        return BrokerUnavailable("unavailable") if self.reads % 2 else None


def test_a_broker_that_recovers_meanwhile_does_not_make_publish_raise() -> None:
    """An error is in the future; an exception would end the current round of a requester's loop."""
    publisher = RecoversMeanwhile(
        NO_BROKER,
        tracer=NoOpTracerProvider().get_tracer("test"),
        meter=NoOpMeterProvider().get_meter("test"),
        max_in_flight=0,
    )
    errors = [type(publisher.publish("GET /unicorn").exception(60)) for _ in range(2)]
    publisher.close(0.1)
    assert errors == [BrokerUnavailable, TooManyInFlight]


def test_the_callbacks_of_a_message_that_fails_later_run_in_the_context_of_the_caller() -> None:
    """Their log line has the trace of the request that the message is about."""
    publisher = Publisher(
        NO_BROKER, tracer=NoOpTracerProvider().get_tracer("test"), meter=NoOpMeterProvider().get_meter("test")
    )
    seen: SimpleQueue[object] = SimpleQueue()
    token = context.attach(context.set_value("request", "seventh"))
    future = publisher.publish("GET /unicorn")
    future.add_done_callback(lambda _: seen.put(context.get_value("request")))
    context.detach(token)
    publisher.close(0)
    assert seen.get(timeout=60) == "seventh"
