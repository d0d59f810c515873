"""The requester: four loops of random requests to the server, each told to the recorder through the queue."""
