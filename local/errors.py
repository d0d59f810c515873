"""The one error of the run without Docker: a foreseeable fault, told in a line that says what to do."""


class LocalError(Exception):
    """Something outside this program is missing, taken or broken.

    `str(error)` is the line for the reader; `detail` holds the last lines of the log that tells more, or nothing.
    """

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.detail = detail
