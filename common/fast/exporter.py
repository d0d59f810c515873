"""Exports over OTLP/gRPC; spans are encoded by encoder.py: about 13 µs for one with 21 attributes instead of 120.

The SDK's exporter has no public place for another encoder, and does not show the answer, in which a collector says how
much it rejected. This one covers what compose and `make demo` use, plaintext gRPC with the standard variables for
headers, timeout and compression; `plaintext_grpc_exporter` returns None for anything else. Source: OpenTelemetry
Protocol specification, "OTLP/gRPC"; opentelemetry-proto, opentelemetry/proto/collector.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]  # its stubs are a package of their own
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from common.fast.encoder import encode_spans
from common.telemetry.delivery import NotDelivered, note_cause, read_answer
from common.telemetry.settings import GRPC_METHODS, Signal
from common.telemetry.standard_variables import otlp_headers, otlp_variable

TIMEOUT_S = 10.0
FIRST_RETRY_S = 1.0
# gRPC waits up to two minutes before it connects again to a collector that was down for long.
RECONNECT = (("grpc.max_reconnect_backoff_ms", 5000),)
# Source: OpenTelemetry Protocol specification, "OTLP/gRPC Response", the codes after which a client retries.
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def plaintext_grpc_exporter(endpoint: str | None, signal: Signal = "traces") -> "PlaintextGrpcExporter | None":
    """Return an exporter to `endpoint`, or to the one that a standard variable names; None where TLS is wanted."""
    standard = partial(otlp_variable, os.environ, signal)
    url = endpoint or standard("ENDPOINT")
    if urlsplit(url).scheme != "http" or standard("INSECURE").lower() == "false" or standard("CERTIFICATE"):
        return None
    return PlaintextGrpcExporter(
        urlsplit(url).netloc,
        metadata=list(otlp_headers(os.environ, signal).items()),
        timeout_s=float(standard("TIMEOUT") or TIMEOUT_S),
        gzip=standard("COMPRESSION").lower() == "gzip",
        signal=signal,
    )


def _encoding(signal: Signal) -> tuple[Callable[[Any], bytes], Any]:
    """Return what encodes a batch of the signal, and the SDK's enumeration of results."""
    if signal == "traces":
        return encode_spans, SpanExportResult
    module, name = {"metrics": ("metrics_encoder", "encode_metrics"), "logs": ("_log_encoder", "encode_logs")}[signal]
    encode = getattr(import_module(f"opentelemetry.exporter.otlp.proto.common.{module}"), name)
    results = MetricExportResult if signal == "metrics" else LogRecordExportResult
    return lambda batch: encode(batch).SerializeToString(), results


class PlaintextGrpcExporter:
    """Sends each batch to `target` (host:port); retries temporary failures for at most `timeout_s` seconds.

    It has the methods that the SDK asks of an exporter of spans, metrics or log records.
    """

    def __init__(
        self,
        target: str,
        *,
        metadata: Sequence[tuple[str, str]],
        timeout_s: float,
        gzip: bool,
        signal: Signal = "traces",
    ) -> None:
        self._metadata = metadata
        self._timeout_s = timeout_s
        self._encode, self._results = _encoding(signal)
        self._stopped = threading.Event()
        self._channel = grpc.insecure_channel(
            target, RECONNECT, grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        )
        self._export = self._channel.unary_unary(GRPC_METHODS[signal])  # bytes in, bytes out

    def export(self, batch: Any, *_: Any, **__: Any) -> Any:
        """Send a batch; return SUCCESS or FAILURE of the SDK's enumeration. What the collector answers is noted."""
        body = self._encode(batch)
        deadline = time.monotonic() + self._timeout_s
        wait_s = FIRST_RETRY_S
        while not self._stopped.is_set():
            left_s = deadline - time.monotonic()
            try:
                read_answer(self._export(body, timeout=max(left_s, 0.001), metadata=self._metadata))
            except (NotDelivered, ValueError):  # another answer, or the channel was closed just now
                break
            except grpc.RpcError as error:
                note_cause(f"{error.code().name}: {error.details()}")
                pause_s = wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                if error.code() not in RETRYABLE or time.monotonic() + pause_s >= deadline:
                    break
                self._stopped.wait(pause_s)
                wait_s *= 2
            else:
                return self._results.SUCCESS
        return self._results.FAILURE

    def shutdown(self, *_: Any, **__: Any) -> None:
        """Stop retrying, and close the connection."""
        self._stopped.set()
        self._channel.close()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing is held."""
        return True
