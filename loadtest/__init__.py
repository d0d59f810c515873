"""The load generator: users, shapes and a gate on Locust, in a separate virtual environment."""
