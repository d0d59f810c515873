"""The optional fast layer; README.md says what each part saves. Only common/telemetry/setup.py imports it."""
