"""Names: of beasts that are made up, of a run, and of the addresses under which requests are counted."""

import random
from datetime import datetime

# One name per pattern of address: with the beast or the page in it, figures would be spread over thousands of rows.
BEAST, NEXT_PAGE = "/<beast>", "/<beast>?before=<id>"

FIRST = "Amber Brisk Crimson Dusky Eager Fabled Gilded Hidden Ivory Jade Keen Lunar Misty Noble Oaken Pale".split()
SECOND = "Arrow Bramble Cinder Dale Ember Fern Grove Hollow Isle Jewel Knoll Lantern Moor Night Orchard Pine".split()


def random_name(dice: random.Random, run_id: str) -> str:
    """Make up a name of at most 50 characters.

    The dice decide all of it but its end, the run: else a second run with the same seed would find its names taken.
    """
    return f"{dice.choice(FIRST)} {dice.choice(SECOND)} {dice.getrandbits(48):012x} {run_id}"[:50]


def new_run_id(now: datetime, dice: random.Random) -> str:
    """Name a run by its start and four digits, as in 1121-093012-4f2a: short, in order, and unlike any other."""
    return f"{now:%m%d-%H%M%S}-{dice.getrandbits(16):04x}"


def dice_of(seed: str, kind: str, number: int) -> random.Random:
    """Give the dice of one user, which are the same in each run with this seed."""
    return random.Random(f"{seed}/{kind}/{number}")  # noqa: S311 - dice, not secrets
