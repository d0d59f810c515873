"""Names: random names of beasts, run ids, and the routes under which requests are counted; and the next page's path."""

import random
import re
from datetime import datetime

# One name per route: with the beast or the page in it, statistics would have thousands of rows.
BEAST, NEXT_PAGE = "/<beast>", "/<beast>?before=<id>"

# RFC 8288, "Web Linking"; the server sends one link of this kind, with a relative path.
NEXT = re.compile(r'<(/[^>\s]*)>\s*;\s*rel="?next"?')

FIRST = "Amber Brisk Crimson Dusky Eager Fabled Gilded Hidden Ivory Jade Keen Lunar Misty Noble Oaken Pale".split()
SECOND = "Arrow Bramble Cinder Dale Ember Fern Grove Hollow Isle Jewel Knoll Lantern Moor Night Orchard Pine".split()


def random_name(rng: random.Random, run_id: str) -> str:
    """Return a random name of at most 50 characters.

    It ends with the run id: otherwise the names of a second run with the same seed would already exist.
    """
    return f"{rng.choice(FIRST)} {rng.choice(SECOND)} {rng.getrandbits(48):012x} {run_id}"[:50]


def new_run_id(now: datetime, rng: random.Random) -> str:
    """Return a run id of its start time and four hex digits, such as 1121-093012-4f2a: short, sortable and unique."""
    return f"{now:%m%d-%H%M%S}-{rng.getrandbits(16):04x}"


def user_rng(seed: str, kind: str, number: int) -> random.Random:
    """Return the random generator of one user, the same in each run with this seed."""
    return random.Random(f"{seed}/{kind}/{number}")  # noqa: S311 - not a secret


def next_page(link: str | None) -> str | None:
    """Return the path of the next page from a Link header, or None on the last page."""
    found = NEXT.search(link or "")
    return found[1] if found else None
