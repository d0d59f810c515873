"""What the tools around the suite share: HTTP queries, the list of services, a lock. Standard library only."""
