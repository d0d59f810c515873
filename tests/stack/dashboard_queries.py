"""Run the queries of the dashboards' panels on a running stack."""

import os
import time
from typing import Any

import psycopg

from grafana.source.reading import PanelQuery
from tests.seams.compose_files import dotenv
from tests.stack.backends import Backends, port

WINDOW_S = 900
# $__rate_interval depends on the width of a panel and on the scrape interval; these are the shortest values that
# Grafana uses: four intervals.
RATE_INTERVALS = {"5s": "20s", "15s": "60s"}


def run_query(stack: Backends, it: PanelQuery, text: str) -> object:
    """Return the data source's result for the text of a query; empty without data."""
    match it.source:
        case "mimir":
            return metric(stack, with_intervals(it, text), instant=it.query["instant"])
        case "loki":
            return log_query(stack, with_intervals(it, text))
        case "tempo" if it.query["queryType"] == "serviceMap":
            return stack.promql("traces_service_graph_request_total")
        case "tempo":
            return stack.traceql(text) if text.startswith("{") else stack.trace(text)
        case "pyroscope":
            return profile(stack, it, text)
        case "postgres":
            return rows(stack, text)
        case _:
            raise LookupError(f"{it}: unknown data source: {it.source}")


def metric(stack: Backends, expression: str, *, instant: bool) -> list[Any]:
    """Return the series of a PromQL query, without those whose values are all NaN."""
    if instant:
        return [series for series in stack.promql(expression) if series["value"][1] != "NaN"]
    end = int(time.time())
    path = "/prometheus/api/v1/query_range"
    response = stack.fetch("MIMIR_PORT", path, query=expression, start=end - WINDOW_S, end=end, step=15)
    found = response["data"]["result"]
    return [series for series in found if any(value != "NaN" for _, value in series["values"])]


def log_query(stack: Backends, expression: str) -> list[Any]:
    """Return the streams or the series of a LogQL query."""
    start = int((time.time() - WINDOW_S) * 1e9)
    path = "/loki/api/v1/query_range"
    return list(stack.fetch("LOKI_PORT", path, query=expression, start=start, limit=20)["data"]["result"])


def profile(stack: Backends, it: PanelQuery, selector: str) -> object:
    """Return the series of a kind of profile, or the total of its flame graph."""
    now = int(time.time() * 1000)
    body = {
        "profileTypeID": it.query["profileTypeId"],
        "labelSelector": selector,
        "start": now - WINDOW_S * 1000,
        "end": now,
    }
    service = "/querier.v1.QuerierService"
    if it.query["queryType"] == "profile":
        response = stack.fetch("PYROSCOPE_PORT", f"{service}/SelectMergeStacktraces", body)
        return int(response.get("flamegraph", {}).get("total", 0))
    more = {"groupBy": it.query["groupBy"], "step": 15}
    return stack.fetch("PYROSCOPE_PORT", f"{service}/SelectSeries", body | more).get("series")


def reader(stack: Backends) -> psycopg.Connection:
    """Return a connection with Grafana's database role."""
    return psycopg.connect(
        host=stack.host,
        port=stack.ports.get("DATABASE_PORT") or port("DATABASE_PORT"),
        dbname="postgres",
        user="grafana",
        password=os.environ.get("GRAFANA_DATABASE_PASSWORD") or dotenv()["GRAFANA_DATABASE_PASSWORD"],
        connect_timeout=5,
        autocommit=True,
    )


def rows(stack: Backends, text: str) -> list[Any]:
    """Return the rows of an SQL query."""
    with reader(stack) as connection:
        return connection.execute(text.encode()).fetchall()


def with_intervals(it: PanelQuery, expression: str) -> str:
    """Return a query with Grafana's interval variables replaced."""
    window = RATE_INTERVALS[it.query.get("interval", "15s")]
    return expression.replace("$__rate_interval", window).replace("$__range", f"{WINDOW_S}s").replace("$__auto", "1m")
