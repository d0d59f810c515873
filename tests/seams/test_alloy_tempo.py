"""Alloy, Tempo, and the Collector compute the same metrics from the same spans."""

import re
from typing import Any

import yaml

from tests.seams.tree import ROOT

TRACES = (ROOT / "alloy" / "traces.alloy").read_text(encoding="utf-8")
OTLP = (ROOT / "alloy" / "otlp.alloy").read_text(encoding="utf-8")
METRICS = (ROOT / "alloy" / "metrics.alloy").read_text(encoding="utf-8")
RELEASE = 'set(attributes["mythical.release"], attributes["service.version"])'


def parsed(name: str) -> dict[str, Any]:
    """Return a YAML file; its variables are left as they are."""
    content = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


TEMPO = parsed("tempo/tempo.yaml")
COLLECTOR = parsed("otel/otel.yml")
GENERATOR = TEMPO["metrics_generator"]
PROCESSOR = GENERATOR["processor"]


def block(opening: str) -> str:
    """Return a block of traces.alloy, from its first line to the closing brace."""
    found = re.search(rf"^{re.escape(opening)} \{{\n(.*?)^\}}", TRACES, re.DOTALL | re.MULTILINE)
    assert found, opening
    return found[1]


def seconds(durations: str) -> list[float]:
    """Convert a list of durations in Alloy's syntax to seconds."""
    found = re.findall(r'"(\d+)(ms|s)"', durations)
    return [int(number) / (1000 if unit == "ms" else 1) for number, unit in found]


SPANMETRICS = block('otelcol.connector.spanmetrics "default"')
SERVICEGRAPH = block('otelcol.connector.servicegraph "default"')


def test_buckets_are_the_same() -> None:
    """Otherwise, a quantile over the metrics of both would be wrong."""
    latency = re.search(r"buckets = (\[.*?\])", SPANMETRICS)
    hops = re.search(r"latency_histogram_buckets = (\[.*?\])", SERVICEGRAPH)
    assert latency
    assert hops
    assert seconds(latency[1]) == PROCESSOR["span_metrics"]["histogram_buckets"]
    assert seconds(hops[1]) == PROCESSOR["service_graphs"]["histogram_buckets"]


def test_dimensions_are_the_same_and_those_of_the_interface() -> None:
    """Both read service_version from an attribute of the span that is not an attribute of any resource."""
    ours = re.findall(r'dimension \{\s*name = "([\w.]+)"', SPANMETRICS)
    mapping = {one["name"]: one["source_labels"] for one in PROCESSOR["span_metrics"]["dimension_mappings"]}
    assert mapping == {"service_version": ["mythical.release"]}
    assert ours == [*PROCESSOR["span_metrics"]["dimensions"], "mythical.release"]
    assert PROCESSOR["span_metrics"]["dimensions"] == ["http.method", "http.target", "http.status_code"]


def test_every_collector_copies_the_release() -> None:
    """Without the copy, Tempo would put the version of the suite on each span metric."""
    assert RELEASE in TRACES
    [group] = COLLECTOR["processors"]["transform/release"]["trace_statements"]
    assert group["statements"][0].startswith(RELEASE)
    assert "transform/release" in COLLECTOR["service"]["pipelines"]["traces"]["processors"]


def test_tempo_sends_only_the_metrics_that_it_is_set_to_generate() -> None:
    """It reads Alloy's switches and drops the metrics whose switch is not `tempo`."""
    [target] = GENERATOR["storage"]["remote_write"]
    rules = target["write_relabel_configs"]
    sources = {rule["replacement"]: rule["regex"] for rule in rules if rule.get("target_label") == "source"}
    assert sources == {
        "${ALLOY_SPAN_METRICS:-tempo}": "traces_spanmetrics_.*",
        "${ALLOY_SERVICE_GRAPH:-tempo}": "traces_service_graph_.*",
    }
    assert {"source_labels": ["source"], "regex": "tempo", "action": "keep"} in rules


def test_external_labels_are_the_same() -> None:
    """Both set `group`; `source` names the program that generated the metric."""
    generated = block('otelcol.processor.transform "generated"')
    assert GENERATOR["registry"]["external_labels"] == {"group": "mythical"}
    assert 'set(attributes["group"], "mythical")' in generated
    assert 'set(attributes["source"], "alloy")' in generated


def test_exemplars_survive_every_hop() -> None:
    """Each of these settings drops exemplars by default, without a log line."""
    assert GENERATOR["storage"]["remote_write"][0]["send_exemplars"] is True
    assert "send_exemplars         = true" in METRICS
    assert parsed("mimir/mimir.yaml")["limits"]["max_global_exemplars_per_user"] > 0
    assert TEMPO["overrides"]["defaults"]["metrics_generator"]["trace_id_label_name"] == "trace_id"


def test_the_collector_forwards_all_signals_and_labels_metrics_as_alloy_does() -> None:
    """The groups and the services are the same."""
    pipelines = COLLECTOR["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics", "logs"}
    assert all("otlp" in pipeline["receivers"] for pipeline in pipelines.values())
    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in pipelines.values())
    [labeling] = COLLECTOR["processors"]["transform/labels"]["metric_statements"]
    groups = [statement for statement in labeling["statements"] if 'attributes["group"]' in statement]
    assert groups
    assert groups == re.findall(r'`(set\(attributes\["group"\].+)`', OTLP)
    scraped = COLLECTOR["receivers"]["prometheus"]["config"]["scrape_configs"]
    labels = [one["labels"] for job in scraped for one in job["static_configs"]]
    assert {one["service"] for one in labels} >= {"mimir", "loki", "tempo", "pyroscope", "grafana", "rabbitmq"}
    assert {one["group"] for one in labels} == {"infrastructure"}


def test_usage_reporting_is_off() -> None:
    """The stack works without a network and reports nothing to the vendors of its parts."""
    assert TEMPO["usage_report"]["reporting_enabled"] is False
    assert parsed("loki/loki.yaml")["analytics"]["reporting_enabled"] is False
    assert parsed("mimir/mimir.yaml")["usage_stats"]["enabled"] is False
    assert parsed("pyroscope/pyroscope.yaml")["analytics"]["reporting_enabled"] is False
