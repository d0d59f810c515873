"""The recorder: takes messages from the queue, works on each for a moment, and counts it."""
