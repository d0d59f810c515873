"""The one exception for input that cannot be taken."""


class Refusal(Exception):
    """An answer other than success: an HTTP status and one line that says what was wrong and what would do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
