"""SLOs and alerts as source code; `python -m mimir.source` generates the rules in mimir/rules from it."""
