"""What the recorder's planted faults do beyond taking their time, which is in recording.py."""
