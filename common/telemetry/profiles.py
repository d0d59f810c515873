"""Continuous profiles, pushed to a Pyroscope server by pyroscope-io."""

import logging
import threading
from collections.abc import Mapping

from opentelemetry.metrics import Meter

from common.telemetry.profile_labels import ProfileLabelProcessor
from common.telemetry.profile_pushes import ProfilePushes, no_proxy

LOGGER = logging.getLogger(__name__)


class Profiles:
    """The pushing of this process's profiles, running or not; there can be one in a process."""

    def __init__(self, *, running: bool, pushes: ProfilePushes | None = None) -> None:
        self.running = running
        self._pushes = pushes

    @classmethod
    def start(
        cls,
        service: str,
        server_address: str,
        tags: Mapping[str, str],
        *,
        meter: Meter,
        sample_rate: int = 100,
        memory: bool = False,
        upload_interval_s: int = 10,
    ) -> "Profiles":
        """Begin to sample and push under the service's name; with an empty address nothing is begun.

        `server_address` is a URL, `tags` become labels of each profile, `sample_rate` is in Hz. Threads on the CPU
        that hold the interpreter lock are sampled, so a process in which nothing runs pushes nothing at all. `memory`
        adds allocation profiles, which make code that allocates much about 30 % slower.

        A server that is away costs nothing: a push that fails, or has no answer in nine seconds, is given up with a
        line on standard error, and counted: `mythical_profiles_dropped`, by `reason`. To be called in the process that
        does the work, after any fork: the sampler is a thread and does not survive one.
        """
        if not server_address:
            return cls(running=False)
        lost = meter.create_counter(
            "mythical_profiles_dropped", unit="{profile}", description="Pushes of profiles given up, by reason."
        )
        import pyroscope  # here, for its native library costs memory that nobody needs without profiles

        # The library asks its logger for a level once, and then writes to standard error by itself, past logging: of
        # errors only, it is one line for each push that failed.
        logging.getLogger("pyroscope").setLevel(logging.ERROR)
        pushes = ProfilePushes(server_address, lambda number, reason: lost.add(number, {"reason": reason}))
        with no_proxy():
            running = pyroscope.configure(
                application_name=service,
                server_address=pushes.address,
                tags=dict(tags),
                sample_rate=sample_rate,
                upload_interval=upload_interval_s,
                mem_enabled=memory,
                enable_logging=True,
            )
        if not running:
            pushes.close()
            LOGGER.warning("Profiles are not pushed: this process pushes profiles already.")
        return cls(running=running, pushes=pushes)

    def span_processor(self) -> ProfileLabelProcessor | None:
        """Give what ties spans to these profiles, or None where no profiles are taken."""
        if not self.running:
            return None
        import pyroscope

        return ProfileLabelProcessor(pyroscope.add_thread_tag, pyroscope.remove_thread_tag)

    def close(self, timeout_s: float) -> bool:
        """Push what was sampled last and stop; False when that was not done in time.

        The library's own shutdown waits up to half a minute for a server that takes the connection and never answers,
        hence a thread that may be left behind.
        """
        if not self.running:
            return True
        import pyroscope

        self.running = False
        last_push = threading.Thread(target=pyroscope.shutdown, name="profiles-close", daemon=True)
        last_push.start()
        last_push.join(timeout_s)
        if last_push.is_alive():
            return False
        if self._pushes:
            self._pushes.close()
        return True
