"""The one error of this package: a foreseeable fault, told in a line that says what to do."""


class WorkshopError(Exception):
    """Something that was asked for cannot be; its text is the line for the reader."""
