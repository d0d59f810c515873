"""Queries to the backends: the age of a service's latest data of each signal, and scrape targets that are down."""

import time
from collections.abc import Callable, Mapping

from doctor.containers import RUNNING, Container
from doctor.report import BROKEN, FRESH, IDLE, LATE, MISSING, Cell, Fault, Finding
from tools.query import OK, NoAnswer, QueryError, get_json, query_mimir, send
from tools.suite import CPU_PROFILE

# How far each query looks back.
LOOK_BACK_S = 3600
# The requester's TIMESHIFT makes its log lines claim to be 40 minutes old; no other service has it.
SHIFTED, SHIFT_S = "mythical-requester", 2400

Age = Callable[[str, str], float | None]


def traces(tempo: str, service: str) -> float | None:
    """Return the seconds since the start of the latest trace with a span of the service; None if there is none."""
    now = int(time.time())
    query = f'{{resource.service.name="{service}"}} with (most_recent=true)'
    found = get_json(f"{tempo}/api/search", q=query, start=now - LOOK_BACK_S, end=now + 1, limit=1)
    began = [int(trace["startTimeUnixNano"]) / 1e9 for trace in found.get("traces", [])]
    return _age(began)


def metrics(mimir: str, service: str) -> float | None:
    """Return the seconds since the latest sample of a metric that every service has; None if there is none."""
    series = f'process_memory_usage_bytes{{group="mythical",service="{service}"}}'
    # Exact to a second while it is fresh, to 15 seconds afterwards.
    query = f"max(timestamp({series})) or max(max_over_time(timestamp({series})[{LOOK_BACK_S}s:15s]))"
    return _age([float(series["value"][1]) for series in query_mimir(mimir, query)])


def logs(loki: str, service: str) -> float | None:
    """Return the seconds since the latest log line, without TIMESHIFT's offset; None if there is none."""
    start = int((time.time() - LOOK_BACK_S) * 1e9)
    query = f'{{service_name="{service}"}}'
    found = get_json(f"{loki}/loki/api/v1/query_range", query=query, start=start, limit=1)
    latest = [int(value[0]) / 1e9 for stream in found["data"]["result"] for value in stream["values"]]
    age = _age(latest)
    return age - SHIFT_S if service == SHIFTED and age is not None and age >= SHIFT_S else age


def profiles(pyroscope: str, service: str) -> float | None:
    """Return the seconds since the latest CPU profile; None if there is none."""
    now = int(time.time() * 1000)
    body = {
        "profileTypeID": CPU_PROFILE,
        "labelSelector": f'{{service_name="{service}"}}',
        "start": now - 900_000,
        "end": now,
        "step": 5.0,
    }
    found = get_json(f"{pyroscope}/querier.v1.QuerierService/SelectSeries", body=body)
    points = [point for series in found.get("series", []) for point in series.get("points", [])]
    return _age([int(point["timestamp"]) / 1000 for point in points if point.get("value")])


def _age(times: list[float]) -> float | None:
    return max(0.0, time.time() - max(times)) if times else None


AGES: Mapping[str, Age] = {"traces": traces, "metrics": metrics, "logs": logs, "profiles": profiles}
# Older data is late. A service pushes metrics every 5 s and profiles every 10 s; between two waves of requests there
# are few spans and log lines.
LATE_S = {"traces": 60.0, "metrics": 30.0, "logs": 60.0, "profiles": 60.0}


def cell(url: str, service: str, signal: str, fault: Callable[[], Fault | None]) -> Cell:
    """Return the cell of a signal in the backend at `url`.

    `fault` returns the cause if data is missing or too old, None if the service has no reason to send any.
    """
    try:
        age = AGES[signal](url, service)
    except (QueryError, KeyError, TypeError, AttributeError, ValueError):
        age = None  # another program may answer there; the checks of the path report it
    if age is not None and age <= LATE_S[signal]:
        return Cell(service, signal, FRESH, age)
    if (found := fault()) is None:
        return Cell(service, signal, IDLE)
    return Cell(service, signal, MISSING if age is None else LATE, age, found)


def not_ready(name: str, url: str, container_state: str, start: str) -> Fault | None:
    """Return a fault if a backend does not answer, or is not ready; `start` is the remedy."""
    try:
        page = send(f"{url}/ready")
        said = "" if page.status == OK else f"it is not ready: {page.text.strip()[:80]}"
    except NoAnswer as error:
        said = f"{name} does not answer at {url}: {container_state or error}"
    return Fault(f"collector → {name}", said, start) if said else None


# Scrape intervals are 5 to 15 s; a target that failed for a whole minute is not merely starting.
FAILED_FOR_A_MINUTE = "max_over_time({0}[1m]) == 0 and count_over_time({0}[1m]) >= 3"
# The group "pods" exists in a cluster.
TARGETS_DOWN = FAILED_FOR_A_MINUTE.format('up{group=~"infrastructure|pods"}')
POSTGRES_DOWN = FAILED_FOR_A_MINUTE.format("pg_up")
# Alloy's login works, and its query of the statements returns nothing.
NO_STATEMENTS = "min_over_time(pg_up[1m]) == 1 and count_over_time(pg_up[1m]) >= 3 unless on () pg_statements_calls"
# Targets whose container has a different name.
CONTAINERS = {"postgres": "mythical-database", "rabbitmq": "mythical-queue", "host": "alloy"}


def failed_targets(
    mimir: str,
    boxes: Mapping[str, Container],
    log: str = "docker compose logs --tail 20 {}",
    execute: str = "docker compose exec {}",
) -> list[Finding]:
    """Report scrape targets that failed for a minute although their container runs; empty if Mimir does not answer.

    `log` and `execute` are the commands that print the log of a container, and that run a command in it.
    """
    try:
        labels = [series["metric"] for series in query_mimir(mimir, TARGETS_DOWN)]
        down = {each.get("pod") or each["service"] for each in labels}
        login_fails = bool(query_mimir(mimir, POSTGRES_DOWN))
        no_statements = bool(query_mimir(mimir, NO_STATEMENTS))
    except (QueryError, KeyError, TypeError):
        return []  # the cells of the metrics report the cause
    found = []
    for name in sorted(down):
        container = CONTAINERS.get(name, name)
        if container not in boxes or boxes[container].state == RUNNING:
            said = "Alloy's scrapes have failed for a minute"
            found.append(Finding(f"metrics of {name}", said, BROKEN, log.format(container)))
    if login_fails:
        said = "the database rejects Alloy's login: its role is missing, or its password is different"
        psql = "psql -U postgres -f /docker-entrypoint-initdb.d/monitor.sql"
        fix = f"{execute.format('mythical-database')} {psql}"
        found.append(Finding("metrics of postgres", said, BROKEN, fix))
    if no_statements:
        said = "Postgres has no statistics of statements: it does not load pg_stat_statements, or has no such extension"
        fix = "add it to shared_preload_libraries and restart Postgres, then the server, which creates the extension"
        found.append(Finding("statements of postgres", said, BROKEN, fix))
    return found
