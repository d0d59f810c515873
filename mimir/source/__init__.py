"""Objectives and alerts as readable source; `python -m mimir.source` writes them as rules to mimir/rules."""
