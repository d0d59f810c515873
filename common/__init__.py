"""What two or more services say in the same words; nothing in here knows which service it is in."""
