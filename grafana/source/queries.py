"""What a panel asks, and whom."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

# How often a value comes, told to Grafana with each query: its $__rate_interval is four of these at least, so that a
# rate never falls between two values. Pushed metrics come every 5 s (OTEL_METRIC_EXPORT_INTERVAL, and Tempo's
# collection_interval); what Alloy fetches comes every 15 s at most.
PUSHED, FETCHED = "5s", "15s"

# Grafana writes after a value what follows the colon.
CORES = "suffix: cores"


@dataclass(frozen=True)
class Source:
    """A data source: its uid, which grafana/provisioning gives it, and Grafana's name for its kind."""

    uid: str
    kind: str

    def as_json(self) -> Json:
        """Return how a query or a variable names this source."""
        return {"type": self.kind, "uid": self.uid}


MIMIR = Source("mimir", "prometheus")
LOKI = Source("loki", "loki")
TEMPO = Source("tempo", "tempo")
PYROSCOPE = Source("pyroscope", "grafana-pyroscope-datasource")
# Nobody asks it in a dashboard; Grafana's own pages under Alerting do.
ALERTMANAGER = Source("alertmanager", "alertmanager")
POSTGRES = Source("postgres", "grafana-postgresql-datasource")


@dataclass(frozen=True)
class Query:
    """A question to a source; `fields` are those of Grafana's query model for it."""

    source: Source
    fields: Json

    def as_json(self, reference: str) -> Json:
        """Return the query as a dashboard holds it, under a letter of its own in its panel."""
        return {"refId": reference, "datasource": self.source.as_json(), **self.fields}


def metric(expression: str, legend: str, *, every: str = PUSHED, exemplars: bool = False) -> Query:
    """PromQL over the time that is shown; `legend` names each line, with labels as in {{beast}}."""
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


def figure(expression: str, legend: str, *, every: str = PUSHED, table: bool = False) -> Query:
    """PromQL at the end of the time that is shown; `table` gives one column for each label."""
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
    """Lines that LogQL selects."""
    return Query(LOKI, {"editorMode": "code", "expr": expression, "queryType": "range", "maxLines": 200})


def log_metric(expression: str, legend: str) -> Query:
    """LogQL that counts, over the time that is shown."""
    fields = {"editorMode": "code", "expr": expression, "legendFormat": legend, "queryType": "range"}
    return Query(LOKI, fields)


def traces(expression: str, *, spans: bool = False, limit: int = 20) -> Query:
    """Traces that TraceQL finds, the newest first, or their single spans; also one trace, by its id.

    Without the hint Tempo stops at the first that it finds, which are among the oldest of those it still holds.
    """
    if expression.startswith("{ "):
        expression += " with (most_recent=true)"
    fields = {"queryType": "traceql", "query": expression, "limit": limit, "spss": 3, "filters": []}
    return Query(TEMPO, fields | {"tableType": "spans" if spans else "traces"})


def service_map() -> Query:
    """Who calls whom, drawn by Grafana from the metrics of the service graph."""
    return Query(TEMPO, {"queryType": "serviceMap", "limit": 20, "tableType": "traces", "filters": []})


def profile(kind: str, selector: str) -> Query:
    """Stacks of all profiles that the selector matches, as one flame graph."""
    return Query(PYROSCOPE, {"queryType": "profile", "groupBy": [], **of_profiles(kind, selector)})


def profile_metric(kind: str, selector: str, *, by: str) -> Query:
    """How much was sampled per second, one line for each value of a label.

    Grafana makes rates of what Pyroscope counts: CPU time is shown in cores, samples per second.
    """
    return Query(PYROSCOPE, {"queryType": "metrics", "groupBy": [by], **of_profiles(kind, selector)})


def of_profiles(kind: str, selector: str) -> Json:
    """Return what both ways to ask for profiles have in common."""
    return {"profileTypeId": kind, "labelSelector": selector, "includeExemplars": False}


def sql(text: str) -> Query:
    """Rows of the database, read by a role that may do nothing else."""
    return Query(POSTGRES, {"editorMode": "code", "format": "table", "rawQuery": True, "rawSql": text})
