"""The four signals of a process. Read setup.py first."""
