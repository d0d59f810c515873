"""The dashboards as source code; `python -m grafana.source` generates grafana/dashboards from it."""
