"""Where the run without Docker keeps its data: one folder per user and checkout, outside the checkout.

`python -m local.state` removes the data; `make clean` calls it.
"""

import hashlib
import os
import pwd
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from common.core.cli import replace_unprintable
from local.errors import LocalError, explain
from tools.run_lock import AlreadyLocked, run_lock

CHECKOUT = Path(__file__).resolve().parents[1]
# RabbitMQ does not become ready with 64.
LEAST_FILES, ENOUGH_FILES = 128, 1024


def state_folder(environ: Mapping[str, str], checkout: Path = CHECKOUT) -> Path:
    """Return the folder that holds the data of this checkout's run, created if needed.

    `MYTHICAL_STATE` names it. Otherwise it is under /var/tmp, because a server that must not run as root could not
    reach a checkout under /root. Raises LocalError if the folder belongs to another user.
    """
    if named := environ.get("MYTHICAL_STATE"):
        return _own_folder(Path(named).absolute())
    mine = _own_folder(Path(f"/var/tmp/mythical-beasts-{os.getuid()}"))  # noqa: S108 - ownership is checked
    return _own_folder(mine / hashlib.sha256(str(checkout).encode()).hexdigest()[:12])


def log_folder(environ: Mapping[str, str], checkout: Path = CHECKOUT) -> Path:
    """Return where the logs of the run go: var/log of the checkout, or a folder in MYTHICAL_STATE if that is set."""
    named = environ.get("MYTHICAL_STATE")
    return Path(named).absolute() / "log" if named else checkout / "var/log"


def short(path: Path) -> Path:
    """Return `path` as seen from the checkout, or as it is if it lies elsewhere."""
    return path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the lock of a run's data. Raises LocalError if another process holds it."""
    try:
        with run_lock(state / "demo.lock", str(os.getpid())):
            yield
    except AlreadyLocked as other:
        pid = other.note
        raise LocalError(f"the demo of this checkout is already running (pid {pid}); stop it: kill {pid}") from None


def raise_file_limit() -> None:
    """Let this process and its children open 1024 files, or as many as are allowed. Raises LocalError below 128."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(ENOUGH_FILES, hard)
    if wanted < LEAST_FILES:
        raise LocalError(
            f"a process may open {wanted} files, {LEAST_FILES} are needed; raise the limit: ulimit -n 1024"
        )
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _own_folder(folder: Path) -> Path:
    # 0711: the servers' users can reach their data below it, but not list it. The owner of a folder here could replace
    # our data, so one of another user is not used.
    ours = not folder.exists()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise LocalError(f"{folder} belongs to another user; set MYTHICAL_STATE to a folder that you own")
    if ours:
        folder.chmod(0o711)  # a umask of 077 made it 0700, and the servers of root would not get in
    return folder


def server_user(*candidates: str) -> str | None:
    """Return the user a server should run as: None for the current one, or as root the first candidate that exists."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in candidates if name in known), None)


def server_folder(folder: Path, user: str | None) -> Path:
    """Create `folder` (mode 0700) for `user`, or for the current one when None, and return it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


def main() -> int:
    """Remove the data of runs and nothing else in the folder; fail with a message if a run uses it."""
    replace_unprintable()
    try:
        state = state_folder(os.environ)
        with only_one(state):
            for name in ("postgres", "rabbitmq", "aspire"):
                shutil.rmtree(state / name, ignore_errors=True)
    except (LocalError, OSError) as fault:
        print(explain(fault) if isinstance(fault, OSError) else fault, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
