"""The faults of labels: `label_explosion` has a value for each caller, `long_label` a whole text."""

from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from common.faults import LABEL_EXPLOSION, LONG_LABEL, Faults

# Some hundred are enough to see, and too few to harm whoever keeps them.
MOST_VISITORS = 400

# Twice what Mimir takes by default (max_label_value_length, 2048 bytes).
LONGEST_TEXT = 4_000


def label_explosion(faults: Faults, meter: Meter) -> None:
    """Register the gauge `mythical_visits`: it has a series for each visitor, and none while the fault is off.

    Simulated: there are no visitors. A gauge that is observed can stop having a series; a counter never does.
    """

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for number in range(round(MOST_VISITORS * faults.strength(LABEL_EXPLOSION))):
            yield Observation(1, {"visitor": f"visitor-{number:03}"})

    meter.create_observable_gauge("mythical_visits", [observe], description="Visits, by visitor: a planted fault.")


def long_label(faults: Faults, meter: Meter) -> None:
    """Register the gauge `mythical_latest_answer`: it has the text of an answer as a label, and no series while off.

    Simulated: it is always the same answer. One text for each answer would be another fault, `label_explosion`.
    """

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        if length := round(LONGEST_TEXT * faults.strength(LONG_LABEL)):
            yield Observation(length, {"answer": ('{"name": "sly_otter"}, ' * length)[:length]})

    meter.create_observable_gauge(
        "mythical_latest_answer", [observe], description="Length of an answer, by its text: a planted fault."
    )
