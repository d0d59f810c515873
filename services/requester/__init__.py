"""The requester: sends random requests to the server, and a message about each to the recorder through the queue."""
