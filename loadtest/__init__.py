"""The load generator: users, shapes and a gate on Locust, which has a virtual environment of its own."""
