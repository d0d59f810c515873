"""Random names of beasts rarely repeat and fit the column."""

import random

from services.requester.names import ANIMALS, COLOURS, PLACES, TEMPERS, random_name
from services.server.request_parsing import MAX_NAME_LENGTH


def names(count: int, seed: int = 1) -> list[str]:
    """Return the first names of a seed."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    return [random_name(rng) for _ in range(count)]


def test_a_name_is_rarely_generated_twice() -> None:
    """A table has up to 10,000 names; an existing name results in a 409 that no fault requested."""
    assert len(COLOURS) * len(TEMPERS) * len(ANIMALS) * len(PLACES) > 5_000_000
    assert len(set(names(2000))) >= 1995


def test_every_name_fits_the_column() -> None:
    """A name has at most 50 printable characters without white space, which separates the parts of a message."""
    longest = "_".join(max(words, key=len) for words in (COLOURS, TEMPERS, ANIMALS, PLACES))
    assert len(longest) <= MAX_NAME_LENGTH
    assert all(name.isprintable() and " " not in name and name.isascii() for name in names(500))


def test_the_words_are_unique() -> None:
    """A word that occurs twice would be drawn twice as often."""
    for words in (COLOURS, TEMPERS, ANIMALS, PLACES):
        assert len(set(words)) == len(words)


def test_the_same_seed_generates_the_same_names() -> None:
    """A run can be repeated."""
    assert names(50, seed=3) == names(50, seed=3) != names(50, seed=4)
