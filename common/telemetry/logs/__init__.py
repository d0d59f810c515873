"""Logs: logfmt lines with trace ids, to Loki, to standard output or over OTLP, off the path of the work."""
