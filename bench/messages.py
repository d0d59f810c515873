"""Messages per second from a publisher to a consumer, compared with plain pika without any delivery guarantee."""

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from bench.report import Measurement
from bench.testbed import TestBed
from common.messaging.consumer import Consumer
from common.messaging.handler import Message
from common.messaging.publisher import Publisher
from common.messaging.topology import Broker
from local.errors import LocalError

TEXT = 'POST /unicorn {"name": "russet_sly_otter_glen"}'
LIMIT_S = 120.0

# When the first message was published and the last one consumed, by the monotonic clock of the machine.
Clock = Any  # a multiprocessing array of two doubles

# One function publishes `count` messages, another returns when it has consumed as many.
Side = Callable[[str, int, int, Clock], None]


def message_rates(testbed: TestBed, *, count: int) -> list[Measurement]:
    """Measure both, each side in its own process, from the first publish to the last message consumed.

    Ours: persistent messages on a durable queue, confirmed, consumed by workers and acknowledged after the work. Pika
    alone: transient messages on a classic queue, neither confirmed nor acknowledged: the limit that the client sets.
    """
    broker = testbed.rabbitmq
    ours = _rate(_publish, _consume, broker.host, broker.port, count)
    alone = _rate(_publish_bare, _consume_bare, broker.host, broker.port, count)
    return [
        Measurement("messages_per_second", round(ours), "/s", "messages: publisher to recorder, confirmed"),
        Measurement("messages_per_second_pika", round(alone), "/s", "messages: pika alone, nothing confirmed"),
        Measurement("messages_ratio", round(ours / alone, 3), "", "messages: ours ÷ pika alone"),
    ]


def _rate(publish: Side, consume: Side, host: str, port: int, count: int) -> float:
    context = multiprocessing.get_context("spawn")
    clock = context.Array("d", 2)
    sides = [context.Process(target=side, args=(host, port, count, clock), daemon=True) for side in (consume, publish)]
    for side in sides:
        side.start()
    for side in sides:
        side.join(LIMIT_S)
        if side.exitcode != 0:
            raise LocalError(f"a side of the message benchmark ended with {side.exitcode}")
    seconds: float = clock[1] - clock[0]
    return count / seconds


def _parts() -> dict[str, Any]:
    return {"tracer": NoOpTracerProvider().get_tracer("bench"), "meter": NoOpMeterProvider().get_meter("bench")}


def _publish(host: str, port: int, count: int, clock: Clock) -> None:
    publisher = Publisher(Broker(host=host, port=port), max_in_flight=count, confirm_timeout_s=LIMIT_S, **_parts())
    while not publisher.ready:
        time.sleep(0.01)
    clock[0] = time.monotonic()
    for future in [publisher.publish(TEXT) for _ in range(count)]:
        future.result(LIMIT_S)
    publisher.close(1.0)


def _consume(host: str, port: int, count: int, clock: Clock) -> None:
    done = Event()
    seen: list[str | None] = []

    def handle(message: Message) -> None:
        seen.append(message.message_id)
        if len(seen) >= count:
            clock[1] = time.monotonic()
            done.set()

    consumer = Consumer(Broker(host=host, port=port), handle, **_parts())
    if not done.wait(LIMIT_S):
        raise TimeoutError(f"{len(seen)} of {count} messages arrived")
    consumer.close(5.0)


def _bare_channel(host: str, port: int) -> tuple[Any, Any]:
    connection = pika.BlockingConnection(pika.ConnectionParameters(host, port))
    channel = connection.channel()
    channel.queue_declare("bench-bare")
    return connection, channel


def _publish_bare(host: str, port: int, count: int, clock: Clock) -> None:
    connection, channel = _bare_channel(host, port)
    clock[0] = time.monotonic()
    for _ in range(count):
        channel.basic_publish("", "bench-bare", TEXT.encode())
    connection.close()


def _consume_bare(host: str, port: int, count: int, clock: Clock) -> None:
    connection, channel = _bare_channel(host, port)
    left = count

    def take(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            clock[1] = time.monotonic()
            channel.stop_consuming()

    channel.basic_consume("bench-bare", take, auto_ack=True)
    connection.call_later(LIMIT_S, partial(channel.stop_consuming))
    channel.start_consuming()
    connection.close()
