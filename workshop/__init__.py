"""The workshop's own part: planted faults to set, scenarios to run, and a page with a switch for each fault."""
