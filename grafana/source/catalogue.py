"""All dashboards."""

from grafana.source.boards import (
    alloy,
    cost,
    erroring_endpoints,
    mlt,
    postgres,
    profiles,
    recorder,
    traces_in_dashboards,
)

BOARDS = (
    mlt.board(),
    erroring_endpoints.board(),
    traces_in_dashboards.board(),
    recorder.board(),
    postgres.board(),
    profiles.board(),
    alloy.board(),
    cost.board(),
)
