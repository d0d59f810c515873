"""Diagnose the suite before it starts and while it runs, and suggest a fix for each fault."""
