"""Where the run without Docker keeps its data: one folder per user and checkout, outside the checkout.

`python -m local.state` throws it away; `make clean` does so.
"""

import hashlib
import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from common.core.cli import replace_unprintable
from local.errors import LocalError
from tools.run_lock import AlreadyLocked, run_lock

CHECKOUT = Path(__file__).resolve().parents[1]


def state_folder(environ: Mapping[str, str], checkout: Path = CHECKOUT) -> Path:
    """Return the folder that holds the data of this checkout's run, made if need be.

    `MYTHICAL_STATE` names it outright. Otherwise it lies under /var/tmp, because a server that must not run as root
    could not reach a checkout under /root. Raises LocalError if somebody else's folder stands in its place.
    """
    if named := environ.get("MYTHICAL_STATE"):
        return _own_folder(Path(named).absolute())
    mine = _own_folder(Path(f"/var/tmp/mythical-beasts-{os.getuid()}"))  # noqa: S108 - ownership is checked
    return _own_folder(mine / hashlib.sha256(str(checkout).encode()).hexdigest()[:12])


def log_folder(environ: Mapping[str, str], checkout: Path = CHECKOUT) -> Path:
    """Return where the logs of the run go: var/log of the checkout, or beside the data where that was named."""
    return state_folder(environ) / "log" if environ.get("MYTHICAL_STATE") else checkout / "var/log"


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the lock of a run's data; the kernel releases it however we end. Raises LocalError if it is held."""
    try:
        with run_lock(state / "demo.lock", str(os.getpid())):
            yield
    except AlreadyLocked as other:
        pid = other.note
        raise LocalError(f"the demo of this checkout runs already (pid {pid}); stop it: kill {pid}") from None


def _own_folder(folder: Path) -> Path:
    # 0711: the servers' own users pass through to their data, nobody lists it. A folder of another user here would let
    # that user swap our data, so it is refused rather than used.
    ours = not folder.exists()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise LocalError(f"{folder} belongs to another user; set MYTHICAL_STATE to a folder of your own")
    if ours:
        folder.chmod(0o711)  # a umask of 077 made it 0700, and the servers of root would not get in
    return folder


def server_user(*candidates: str) -> str | None:
    """Return the user a server should run as: None (ourselves), or as root the first candidate that exists."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in candidates if name in known), None)


def server_folder(folder: Path, user: str | None) -> Path:
    """Make `folder` (mode 0700) for `user`, or for ourselves when None, and return it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


def main() -> int:
    """Remove what runs left, but nothing else that may lie in the folder; say so if a run still uses it."""
    replace_unprintable()
    try:
        state = state_folder(os.environ)
        with only_one(state):
            for name in ("postgres", "rabbitmq", "aspire"):
                shutil.rmtree(state / name, ignore_errors=True)
    except LocalError as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
