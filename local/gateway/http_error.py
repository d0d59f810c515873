"""The exception that handlers raise to answer with an error status."""


class HttpError(Exception):
    """An error response: its status, and one line that says what is wrong and what is accepted."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
