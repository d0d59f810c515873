"""Code that two or more services share; nothing in it depends on the service."""
