"""The run without Docker: the suite and its telemetry as plain processes on one machine."""
