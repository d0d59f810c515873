"""The error of the run without Docker: an expected failure, with a text that says what to do."""

import errno


class LocalError(Exception):
    """Something outside this program is missing, in use or broken.

    `str(error)` is the message; `detail` holds the last lines of the relevant log, or nothing.
    """

    def __init__(self, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.detail = detail


def explain(fault: OSError) -> LocalError:
    """Return the error that says which file cannot be used, or why a process cannot start, and what to do."""
    what = f"{fault.filename}: " if fault.filename else ""
    remedy = "set MYTHICAL_STATE to a folder that you can write"
    if fault.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "raise the limit: ulimit -n 1024"
    elif fault.errno in (errno.EAGAIN, errno.ENOMEM):
        remedy = "stop other programs, or raise the limits: ulimit -u, ulimit -v"
    return LocalError(f"{what}{fault.strerror or fault}; {remedy}")
