"""Continuous profiles, pushed to a Pyroscope server by pyroscope-io."""

import logging
import threading
from collections.abc import Mapping
from http import HTTPStatus

import requests
from opentelemetry.instrumentation.utils import suppress_instrumentation

from common.core.proxies import bypass_proxies
from common.telemetry.profile_labels import ProfileLabelProcessor

log = logging.getLogger(__name__)

# To connect and to read, in seconds: together less than the ten seconds between two checks.
CHECK_TIMEOUT_S = (2.0, 7.0)


class Profiles:
    """The profiler of this process, running or not; the library allows one per process."""

    def __init__(self, *, running: bool, health: "_ServerHealth | None" = None) -> None:
        self.running = running
        self._health = health

    @classmethod
    def start(
        cls,
        service: str,
        server_address: str,
        tags: Mapping[str, str],
        *,
        sample_rate: int = 100,
        memory: bool = False,
        upload_interval_s: int = 10,
    ) -> "Profiles":
        """Start to sample and push under the service's name; with an empty address nothing is started.

        `server_address` is a URL, `tags` become labels of each profile, `sample_rate` is in Hz. Threads on the CPU
        that hold the interpreter lock are sampled, so an idle process pushes nothing at all. `memory` adds allocation
        profiles, which slow code that allocates much by about 30 %.

        A profile whose push fails is lost. Call it in the process that does the work, after any fork: the sampler is a
        thread and does not survive one.
        """
        if not server_address:
            return cls(running=False)
        import pyroscope  # here, as its native library needs memory that a process without profiles can save

        bypass_proxies(server_address)
        # The library logs natively to standard error, one line for each push that failed: every ten seconds while the
        # server is unavailable. Those are for debugging; `_ServerHealth` logs the changes of state.
        logging.getLogger("pyroscope").setLevel(logging.ERROR)
        running = pyroscope.configure(
            application_name=service,
            server_address=server_address,
            tags=dict(tags),
            sample_rate=sample_rate,
            upload_interval=upload_interval_s,
            mem_enabled=memory,
            enable_logging=log.isEnabledFor(logging.DEBUG),
        )
        if not running:
            log.warning("Profiles are not pushed: this process pushes profiles already.")
            return cls(running=False)
        return cls(running=True, health=_ServerHealth(server_address, upload_interval_s))

    def span_processor(self) -> ProfileLabelProcessor | None:
        """Return the processor that labels samples with spans, or None if no profiles are taken."""
        if not self.running:
            return None
        import pyroscope

        return ProfileLabelProcessor(pyroscope.add_thread_tag, pyroscope.remove_thread_tag)

    def close(self, timeout_s: float) -> bool:
        """Push the last samples and stop; return False if that took longer than `timeout_s`.

        The library's own shutdown waits up to half a minute for a server that accepts the connection and never
        responds, hence a daemon thread that is left behind.
        """
        if not self.running:
            return True
        import pyroscope

        self.running = False
        if self._health:
            self._health.close()
        last_push = threading.Thread(target=pyroscope.shutdown, name="profiles-close", daemon=True)
        last_push.start()
        last_push.join(timeout_s)
        return not last_push.is_alive()


class _ServerHealth:
    """Checks at each interval whether the server responds, and logs one line when that changes.

    Any response below 500 counts: what is at the root differs between Pyroscope and its receivers. A push that is
    rejected while the server is healthy shows in the library's own lines, with LOG_LEVEL=DEBUG.
    """

    def __init__(self, server_address: str, interval_s: float) -> None:
        self._address = server_address
        self._interval_s = interval_s
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="profiles-health", daemon=True).start()

    def close(self) -> None:
        """Stop checking; a request under way ends by itself."""
        self._stop.set()

    def _run(self) -> None:
        failed = False
        while not self._stop.wait(self._interval_s):
            problem = self._problem()
            if self._stop.is_set() or failed == bool(problem):
                continue
            failed = bool(problem)
            if failed:
                log.warning(
                    "profile server unavailable", extra={"fields": {"profiles": self._address, "error": problem}}
                )
            else:
                log.info("profile server available again", extra={"fields": {"profiles": self._address}})

    def _problem(self) -> str:
        """Return why the server is unavailable, or an empty string."""
        try:
            with suppress_instrumentation():  # not part of any request: no span
                response = requests.get(self._address, timeout=CHECK_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            return type(error).__name__
        return "" if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR else f"status {response.status_code}"
