"""The fault `label_explosion`: a metric with a label that tells each caller from every other."""

from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from common.faults import LABEL_EXPLOSION, Faults

# Some hundred are enough to see, and too few to harm whoever keeps them.
MOST_VISITORS = 400


def label_explosion(faults: Faults, meter: Meter) -> None:
    """Register the gauge `mythical_visits`: it has a series for each visitor, and none while the fault is off.

    Simulated: there are no visitors. A gauge that is observed can stop having a series; a counter never does.
    """

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for number in range(round(MOST_VISITORS * faults.strength(LABEL_EXPLOSION))):
            yield Observation(1, {"visitor": f"visitor-{number:03}"})

    meter.create_observable_gauge("mythical_visits", [observe], description="Visits, by visitor: a planted fault.")
