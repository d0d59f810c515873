"""The endpoints have the names, order, and danger values that dashboards and workshop texts rely on."""

from common.core.endpoints import BORING, MYTHICAL, endpoints_for


def test_the_beasts_have_the_order_and_the_danger_of_the_interface() -> None:
    """The order determines how often the names of a beast are deleted, and the gauge shows the danger."""
    assert list(MYTHICAL.danger.items()) == [
        ("unicorn", 1),
        ("manticore", 23),
        ("illithid", 13),
        ("owlbear", 32),
        ("beholder", 153),
    ]
    assert (MYTHICAL.tag, MYTHICAL.prefix) == ("beast", "mythical")


def test_the_boring_endpoints_are_those_of_a_shop() -> None:
    """ENDPOINT_TYPE=BORING has other endpoints, the tag `endpoint`, and the prefix `eStore`."""
    assert list(BORING.danger.items()) == [
        ("login", 1),
        ("payment", 4),
        ("account", 5),
        ("cart", 2),
        ("health", 3),
        ("fastcache", 6),
    ]
    assert (BORING.tag, BORING.prefix) == ("endpoint", "eStore")


def test_the_endpoint_type_chooses_the_catalogue() -> None:
    """Anything but BORING means the beasts."""
    assert endpoints_for("BORING") is BORING
    assert endpoints_for("MYTHICAL") is MYTHICAL
    assert endpoints_for("").names == ("unicorn", "manticore", "illithid", "owlbear", "beholder")
