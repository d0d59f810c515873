"""Shared by every part: the environment, the endpoints, command lines."""
