"""The workshop's tools: a command and a page that inject faults, and scenarios to diagnose."""


class WorkshopError(Exception):
    """A request that cannot be fulfilled; the text is one line for the user."""
