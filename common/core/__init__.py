"""Shared by all parts: environment variables, endpoints, command lines."""
