"""The error of the run without Docker: an expected failure, with a text that says what to do."""


class LocalError(Exception):
    """Something outside this program is missing, in use or broken.

    `str(error)` is the message; `detail` holds the last lines of the relevant log, or nothing.
    """

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.detail = detail
