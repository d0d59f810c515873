"""Names depend on the seed and fit the column."""

import random
import re
from datetime import UTC, datetime

from loadtest.names import new_run_id, next_page, random_name, user_rng

RUN = "1121-093012-4f2a"


def test_a_seed_results_in_the_same_names_for_the_same_user() -> None:
    """Another user, kind, or seed has other names."""
    first = [random_name(user_rng("7", "keeper", 3), RUN) for _ in range(2)]
    assert first[0] == first[1]
    others = {random_name(user_rng(*of), RUN) for of in (("7", "keeper", 4), ("7", "browser", 3), ("8", "keeper", 3))}
    assert len({*others, first[0]}) == 4


def test_two_runs_with_one_seed_have_different_names() -> None:
    """Otherwise, the second run would get 409 for existing names."""
    assert random_name(user_rng("7", "keeper", 3), RUN) != random_name(user_rng("7", "keeper", 3), "1121-093013-0000")


def test_names_fit_the_column() -> None:
    """A name has at most 50 characters, including the whole run ID."""
    for number in range(500):
        name = random_name(user_rng("x", "breeder", number), RUN)
        assert len(name) <= 50
        assert name.endswith(RUN)


def test_a_run_is_named_by_its_start() -> None:
    """IDs are in order of time, and two of the same second differ."""
    rng = random.Random(1)  # noqa: S311 - not for secrets
    name = new_run_id(datetime(2026, 11, 21, 9, 30, 12, tzinfo=UTC), rng)
    assert re.fullmatch(r"1121-093012-[0-9a-f]{4}", name)


def test_the_next_page_is_read_from_the_link_header() -> None:
    """It must be a path of the same server; another relation or server is not followed."""
    assert next_page('</unicorn?limit=20&before=7>; rel="next"') == "/unicorn?limit=20&before=7"
    assert next_page(None) is None
    assert next_page('</unicorn>; rel="prev"') is None
    assert next_page('<http://elsewhere/unicorn>; rel="next"') is None
