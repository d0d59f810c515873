"""Serving HTTP: the server, admin endpoints, errors, limits."""
