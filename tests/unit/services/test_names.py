"""Names for beasts."""

import random

from services.requester.names import ANIMALS, COLOURS, PLACES, TEMPERS, random_name
from services.server.request_parsing import MAX_NAME_LENGTH


def names(count: int, seed: int = 1) -> list[str]:
    """The first names for a seed."""
    rng = random.Random(seed)  # noqa: S311 - dice, not secrets
    return [random_name(rng) for _ in range(count)]


def test_a_name_is_rarely_given_twice() -> None:
    """A table holds ten thousand of them; a name that exists makes a 409 that no fault asked for."""
    assert len(COLOURS) * len(TEMPERS) * len(ANIMALS) * len(PLACES) > 5_000_000
    assert len(set(names(2000))) >= 1995


def test_every_name_fits_the_column() -> None:
    """50 characters, printable, without white space: also on the queue, where a blank ends the beast."""
    longest = "_".join(max(words, key=len) for words in (COLOURS, TEMPERS, ANIMALS, PLACES))
    assert len(longest) <= MAX_NAME_LENGTH
    assert all(name.isprintable() and " " not in name and name.isascii() for name in names(500))


def test_the_words_are_different_ones() -> None:
    """A word that stands twice would be drawn twice as often."""
    for words in (COLOURS, TEMPERS, ANIMALS, PLACES):
        assert len(set(words)) == len(words)


def test_the_same_dice_give_the_same_names() -> None:
    """One seed, one run."""
    assert names(50, seed=3) == names(50, seed=3) != names(50, seed=4)
