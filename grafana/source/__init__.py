"""The dashboards as readable source; `python -m grafana.source` writes them to grafana/dashboards."""
