"""What is wrong with the suite, before it starts and while it runs, and what to do about it."""
