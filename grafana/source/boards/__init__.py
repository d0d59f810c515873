"""All dashboards, each in its own file."""

from grafana.source.boards import (
    alloy,
    cost,
    erroring_endpoints,
    frontend,
    locust,
    mlt,
    postgres,
    profiles,
    recorder,
    runbooks,
    slo,
    traces_in_dashboards,
)

ALL_DASHBOARDS = (
    mlt.board(),
    slo.board(),
    erroring_endpoints.board(),
    traces_in_dashboards.board(),
    frontend.board(),
    recorder.board(),
    postgres.board(),
    profiles.board(),
    alloy.board(),
    cost.board(),
    locust.board(),
    runbooks.board(),
)
