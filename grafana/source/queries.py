"""Queries of panels, and their data sources."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# The interval between samples, part of each query: Grafana's $__rate_interval is at least four of these, so that a rate
# always covers several samples. Pushed metrics arrive every 5 s (OTEL_METRIC_EXPORT_INTERVAL, and Tempo's
# collection_interval); Alloy scrapes at least every 15 s.
PUSHED, SCRAPED = "5s", "15s"

# Grafana appends the text after the colon to a value.
CORES = "suffix: cores"


@dataclass(frozen=True)
class Source:
    """A data source: its uid from grafana/provisioning, and Grafana's name for its type."""

    uid: str
    kind: str

    def as_json(self) -> Json:
        """Return the reference to this source in a query or a variable."""
        return {"type": self.kind, "uid": self.uid}


MIMIR = Source("mimir", "prometheus")
LOKI = Source("loki", "loki")
TEMPO = Source("tempo", "tempo")
PYROSCOPE = Source("pyroscope", "grafana-pyroscope-datasource")
# Used by Grafana's own pages under Alerting, not by a dashboard.
ALERTMANAGER = Source("alertmanager", "alertmanager")
POSTGRES = Source("postgres", "grafana-postgresql-datasource")


@dataclass(frozen=True)
class Query:
    """A query to a source; `fields` are those of Grafana's query model for it."""

    source: Source
    fields: Json

    def as_json(self, reference: str) -> Json:
        """Return the query as a dashboard holds it, under its letter in the panel."""
        return {"refId": reference, "datasource": self.source.as_json(), **self.fields}


def metric(expression: str, legend: str, *, every: str = PUSHED, exemplars: bool = False) -> Query:
    """Return a PromQL range query; `legend` names each line and may contain labels such as {{beast}}."""
    return Query(
        MIMIR,
        {
            "editorMode": "code",
            "expr": expression,
            "legendFormat": legend,
            "range": True,
            "instant": False,
            "exemplar": exemplars,
            "interval": every,
        },
    )


def instant(expression: str, legend: str, *, every: str = PUSHED, table: bool = False) -> Query:
    """Return a PromQL instant query at the end of the time range; `table` adds a column for each label."""
    fields = {
        "editorMode": "code",
        "expr": expression,
        "legendFormat": legend,
        "range": False,
        "instant": True,
        "exemplar": False,
        "interval": every,
    }
    return Query(MIMIR, fields | {"format": "table"} if table else fields)


def log_lines(expression: str) -> Query:
    """Return a LogQL query for log lines."""
    return Query(LOKI, {"editorMode": "code", "expr": expression, "queryType": "range", "maxLines": 200})


def log_metric(expression: str, legend: str) -> Query:
    """Return a LogQL metric query over the time range."""
    fields = {"editorMode": "code", "expr": expression, "legendFormat": legend, "queryType": "range"}
    return Query(LOKI, fields)


def traces(expression: str, *, spans: bool = False, limit: int = 20) -> Query:
    """Return a TraceQL query for traces, newest first, or for spans; or for one trace by its id.

    Without the hint, Tempo stops at the first matches, which are among the oldest that it stores.
    """
    if expression.startswith("{ "):
        expression += " with (most_recent=true)"
    fields = {"queryType": "traceql", "query": expression, "limit": limit, "spss": 3, "filters": []}
    return Query(TEMPO, fields | {"tableType": "spans" if spans else "traces"})


def service_map() -> Query:
    """Return a query for the service graph, which Grafana draws from its metrics."""
    return Query(TEMPO, {"queryType": "serviceMap", "limit": 20, "tableType": "traces", "filters": []})


def profile(kind: str, selector: str) -> Query:
    """Return a query for the merged stacks of all profiles that match the selector."""
    return Query(PYROSCOPE, {"queryType": "profile", "groupBy": [], **of_profiles(kind, selector)})


def profile_metric(kind: str, selector: str, *, by: str) -> Query:
    """Return a query for samples per second, with one line for each value of a label.

    Grafana converts Pyroscope's counts to rates: CPU time is shown in cores, samples per second.
    """
    return Query(PYROSCOPE, {"queryType": "metrics", "groupBy": [by], **of_profiles(kind, selector)})


def of_profiles(kind: str, selector: str) -> Json:
    """Return the fields that both queries for profiles have in common."""
    return {"profileTypeId": kind, "labelSelector": selector, "includeExemplars": False}


def sql(text: str) -> Query:
    """Return an SQL query, which a read-only role executes."""
    return Query(POSTGRES, {"editorMode": "code", "format": "table", "rawQuery": True, "rawSql": text})
