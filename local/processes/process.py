"""A child process with its own log that ends with this one, or is found and ended by the next start."""

import contextlib
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from local.errors import LocalError
from local.processes.record import ProcessRecord, kill, process_tree
from local.state import CHECKOUT, short

GRACE_S = 5.0
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Process:
    """One program as a child process: launched once or again, stopped or killed, never left running.

    It leads its own session, so Ctrl-C in the terminal reaches only this process, which chooses the order of stopping.
    On Linux the kernel sends it `stop_signal` when this process ends (setpriv --pdeathsig). Everywhere the file
    `record` names it to the next start, which ends it; `mark` is a part of its command line by which it is recognised.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: Path,
        record: Path,
        mark: str,
        environ: Mapping[str, str] | None = None,
        folder: Path = CHECKOUT,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._arguments = list(arguments)
        self._record = ProcessRecord(record, mark)
        self._environ = environ
        self._folder = folder
        self._user = user
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False

    def end_orphan(self) -> bool:
        """End the process that a crashed run left of this program; return whether there was one."""
        return not self.running and self._record.end_orphan(self._stop_signal)

    def launch(self) -> None:
        """Start the program, after ending the orphan of an earlier run. Raises LocalError if it cannot be run."""
        self.end_orphan()
        self._asked = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("ab") as log:
                self._child = subprocess.Popen(  # noqa: S603 - our own arguments
                    [*_pdeathsig_prefix(self._stop_signal), *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._folder,
                    env=self._environ,
                    start_new_session=True,
                    user=self._user,
                    group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                    extra_groups=[] if self._user else None,
                )
        except OSError as fault:
            if fault.filename == str(self.log):
                raise
            raise LocalError(f"{self.name} cannot be started: {fault.strerror} ({self._arguments[0]})") from fault
        self._record.write(self._child.pid)

    @property
    def pid(self) -> int | None:
        """The process number while it runs, else None."""
        return self._child.pid if self._child is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it was launched and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, the negative signal number if a signal ended it, None while it runs."""
        return self._child.poll() if self._child is not None else None

    def ask_to_stop(self) -> None:
        """Send `stop_signal`, once, and return immediately."""
        if self._child is not None and self.running and not self._asked:
            self._asked = True  # a second signal would make some servers drop what they are finishing
            self._child.send_signal(self._stop_signal)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; False if it has not within `timeout_s`."""
        if self._child is None:
            return True
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._record.remove(self._child.pid)
        return True

    def stop(self, grace_s: float = GRACE_S) -> int | None:
        """Stop it gracefully, or kill it after `grace_s`; return its exit code."""
        self.ask_to_stop()
        if not self.wait(grace_s):
            self.kill()
        return self.exit_code

    def kill(self) -> None:
        """End it and all its descendants with SIGKILL, as a crash would; return when it has ended."""
        if self._child is None:
            return
        if self.running:
            # All are looked up before the first ends: afterwards they would be children of init.
            with contextlib.suppress(psutil.NoSuchProcess):
                kill(process_tree(self._child.pid))
            self._child.wait()
        self._record.remove(self._child.pid)

    def tail(self, lines: int = 10) -> str:
        """Return the last lines of its log, without colours."""
        if not self.log.exists():
            return ""
        text = self.log.read_bytes()[-20_000:].decode(errors="replace")
        return "\n".join(COLOUR.sub("", text).rstrip().splitlines()[-lines:])

    def fault(self, what: str) -> LocalError:
        """Return the error that says `what` happened to it, with the path and the last lines of its log."""
        return LocalError(f"{self.name} {what}; its log: {short(self.log)}", self.tail())

    def wait_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Return once `is_ready` returns true. Raises LocalError, with the log's tail, if it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.running:
                raise self.fault(f"ended immediately (exit code {self.exit_code})")
            if time.monotonic() > deadline:
                raise self.fault(f"was not ready within {timeout_s:.0f} s")
            time.sleep(0.05)


def _pdeathsig_prefix(stop_signal: signal.Signals) -> list[str]:
    """Return the command to put before another, which then gets `stop_signal` when this process ends; or nothing."""
    # The kernel sends the signal when the *thread* that forked ends, so only the main thread may use it. Without
    # setpriv (macOS), the next start still finds the orphan by its record.
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    prefix = [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--"]
    # BusyBox has a setpriv without this option.
    works = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603
    return prefix if works else []
