"""The /metrics page is parsed with prometheus_client's parsers."""

from collections.abc import Iterator

import pytest
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_plain

from common.telemetry.prometheus import render_metrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
RESOURCE = Resource({"service.name": "mythical-server", "service.namespace": "production"})


class Measured:
    """A meter, and the page with its metrics."""

    def __init__(self, *views: View) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], RESOURCE, shutdown_on_exit=False, views=views)
        self.meter: Meter = self.provider.get_meter("test")

    def page(self, accept: str = OPENMETRICS) -> tuple[str, str]:
        """Return the text and its content type."""
        text, content_type = render_metrics(self._reader.get_metrics_data(), accept)
        return text.decode(), content_type

    def families(self) -> dict[str, Family]:
        """Return the page as Prometheus parses it."""
        return {family.name: family for family in read_openmetrics(self.page()[0])}  # type: ignore[no-untyped-call]


@pytest.fixture
def measured() -> Iterator[Measured]:
    """Return a new meter."""
    made = Measured()
    yield made
    made.provider.shutdown()


def test_an_exemplar_is_on_the_bucket_of_its_value(measured: Measured) -> None:
    """A slow bucket of the histogram links to a slow trace; a value equal to a bound belongs to that bucket."""
    times = measured.meter.create_histogram("mythical_request_times", explicit_bucket_boundaries_advisory=[10, 20, 50])
    tracer, spans = TracerProvider(shutdown_on_exit=False).get_tracer("test"), {}
    for value, bound in ((3, "10.0"), (20, "20.0"), (99, "+Inf")):
        with tracer.start_as_current_span("x") as span:
            times.record(value, {"method": "GET", "beast": "unicorn"})
            spans[bound] = (span.get_span_context(), value)
    buckets = {
        sample.labels["le"]: sample
        for sample in measured.families()["mythical_request_times"].samples
        if sample.name.endswith("_bucket")
    }
    assert [(bound, sample.value) for bound, sample in buckets.items()] == [
        ("10.0", 1),
        ("20.0", 2),
        ("50.0", 2),
        ("+Inf", 3),
    ]
    assert buckets["50.0"].exemplar is None
    for bound, (context, value) in spans.items():
        exemplar = buckets[bound].exemplar
        assert exemplar is not None
        assert exemplar.labels == {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
        assert exemplar.value == value


def test_a_histogram_has_its_count_and_its_sum(measured: Measured) -> None:
    """Mean values are computed from them."""
    measured.meter.create_histogram("h").record(3, {"a": "b"})
    samples = {sample.name: sample for sample in measured.families()["h"].samples}
    assert (samples["h_count"].value, samples["h_sum"].value) == (1, 3)
    assert samples["h_sum"].labels == {"a": "b"}


@pytest.mark.parametrize(
    ("name", "unit", "exposed"),
    [
        ("mythical_messages_recorded", "", "mythical_messages_recorded"),
        ("process.cpu.time", "s", "process_cpu_time_seconds"),
        ("process.memory.usage", "By", "process_memory_usage_bytes"),
        ("some.wait", "ms", "some_wait_milliseconds"),
        ("fill_percent", "%", "fill_percent"),
        ("messaging.client.sent.messages", "{message}", "messaging_client_sent_messages"),
    ],
)
def test_names_are_those_of_the_otlp_path(measured: Measured, name: str, unit: str, exposed: str) -> None:
    """Source: OpenTelemetry, "Prometheus and OpenMetrics Compatibility". Dashboards work with both."""
    measured.meter.create_counter(name, unit, "Of a kind.").add(2, {"http.route": "/<beast>"})
    family = measured.families()[exposed]
    assert (family.type, family.documentation) == ("counter", "Of a kind.")
    (sample,) = family.samples
    assert (sample.name, sample.labels, sample.value) == (f"{exposed}_total", {"http_route": "/<beast>"}, 2)


def test_values_that_can_decrease_are_gauges(measured: Measured) -> None:
    """A gauge and an up-down counter keep their names; only a monotonic counter has the suffix _total."""

    def level(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(153)

    measured.meter.create_observable_gauge("mythical_danger_level_30s", [level])
    measured.meter.create_up_down_counter("open", "{thing}").add(-1)
    families = measured.families()
    assert families["mythical_danger_level_30s"].type == families["open"].type == "gauge"
    assert families["mythical_danger_level_30s"].samples[0].value == 153
    assert families["open"].samples[0].value == -1


def test_the_resource_is_target_info(measured: Measured) -> None:
    """Queries can join metrics with the attributes of their process."""
    measured.meter.create_counter("c").add(1)
    target = measured.families()["target"]
    assert target.type == "info"
    assert target.samples[0].name == "target_info"
    assert target.samples[0].labels["service_name"] == "mythical-server"


def test_the_plain_format_has_the_same_values_and_no_exemplars(measured: Measured) -> None:
    """The format does not support them: a scrape by an older server would fail completely."""
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("x"):
        measured.meter.create_histogram("h").record(3)
        measured.meter.create_counter("c").add(1)
    text, content_type = measured.page("text/plain")
    assert content_type.startswith("text/plain")
    assert "trace_id" not in text
    samples = {sample.name: sample.value for family in read_plain(text) for sample in family.samples}
    assert (samples["h_count"], samples["c_total"]) == (1, 1)


def test_openmetrics_has_its_content_type(measured: Measured) -> None:
    """Prometheus reads exemplars only with this content type."""
    assert measured.page()[1].startswith("application/openmetrics-text")


def test_without_measurements_there_is_a_valid_page() -> None:
    """A scrape before the first measurement must not fail."""
    assert render_metrics(None, OPENMETRICS)[0] == b"# EOF\n"
    assert render_metrics(None, "")[0] == b""


def test_two_instruments_with_one_name_and_different_kinds_do_not_break_the_page(measured: Measured) -> None:
    """The second is left out, because a page with both would be invalid."""
    measured.provider.get_meter("one").create_counter("same").add(1)
    measured.provider.get_meter("two").create_histogram("same").record(5)
    assert {sample.name for sample in measured.families()["same"].samples} <= {"same_total", "same_count"}


def test_an_exponential_histogram_does_not_break_the_page() -> None:
    """The text formats do not support it, and the rest of the page is served."""
    measured = Measured(View(instrument_name="h", aggregation=ExponentialBucketHistogramAggregation()))
    measured.meter.create_histogram("h").record(3)
    measured.meter.create_counter("c").add(1)
    assert measured.families()["c"].samples[0].value == 1
    measured.provider.shutdown()


def test_no_label_value_can_break_the_page(measured: Measured) -> None:
    """Quotes, newlines, and backslashes are escaped."""
    odd = 'a"b\\c\nd'
    measured.meter.create_counter("c").add(1, {"odd": odd})
    assert measured.families()["c"].samples[0].labels == {"odd": odd}


@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
def test_an_invalid_version_gets_the_plain_page(kind: str) -> None:
    """Every client can parse the plain format."""
    assert render_metrics(None, f"{kind}; version=x1")[1].startswith("text/plain; version=0.0.4")
