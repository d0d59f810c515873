"""The recorder: consumes messages from the queue, processes each for a moment, and counts it."""
