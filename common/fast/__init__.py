"""The optional fast layer; see README.md in this folder."""
