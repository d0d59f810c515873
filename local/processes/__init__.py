"""Child processes: started in the order of their needs, watched, stopped, and found after a crash."""
