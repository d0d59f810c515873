"""The telemetry of faults: a gauge while one is on, and a log line when that begins and ends."""

import logging
from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from common.faults.state import Change, Faults

log = logging.getLogger(__name__)


def register_fault_telemetry(faults: Faults, meter: Meter) -> None:
    """Register the gauge `mythical_fault_strength`, and log each change.

    It has a series for each fault whose strength is not its default; the six that are on by default would otherwise
    fill every dashboard with annotations. A fault that is set blind appears as `unnamed`.
    """

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for fault in faults.supported:
            strength = faults.strength(fault)
            if strength != fault.default:
                yield Observation(strength, {"fault": faults.public_name(fault)})

    meter.create_observable_gauge(
        "mythical_fault_strength", [observe], description="Strength of an injected fault that is not at its default."
    )
    faults.on_change(_log)


def _log(change: Change) -> None:
    log.warning("injected fault set", extra={"fields": {"fault": change.public_name, "strength": change.strength}})
