"""Each reader of the environment converts valid values and rejects invalid ones with a remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.core.env import LIBPQ_SECURITY, Env, SettingsError, remove_libpq_variables

Reader = Callable[[Env], object]

GOOD: list[tuple[str, Reader, object]] = [
    ("  alloy ", lambda env: env.text("X", "d"), "alloy"),
    ("boring", lambda env: env.choice("X", "MYTHICAL", ("MYTHICAL", "BORING")), "BORING"),
    ("YES", lambda env: env.flag("X", default=False), True),
    ("on", lambda env: env.flag("X", default=False), True),
    ("1", lambda env: env.flag("X", default=False), True),
    ("Off", lambda env: env.flag("X", default=True), False),
    ("no", lambda env: env.flag("X", default=True), False),
    ("0", lambda env: env.flag("X", default=True), False),
    ("0.25", lambda env: env.number("X", 1, 0, 1), 0.25),
    ("0", lambda env: env.number("X", 1, 0, 1), 0.0),
    ("1", lambda env: env.number("X", 0, 0, 1), 1.0),
    ("86399999.5", lambda env: env.number("X", 1, 0, 86_400_000), 86_399_999.5),
    ("7", lambda env: env.integer("X", 1, 0, 10), 7),
    ("65535", lambda env: env.port("X", 1), 65535),
    ("mythical-server:4000", lambda env: env.host_port("X", "h:1"), ("mythical-server", 4000)),
    ("::1", lambda env: env.host("X", "h"), "::1"),
    ("/var/run/postgresql", lambda env: env.host("X", "h"), "/var/run/postgresql"),
    ("[::1]", lambda env: env.host("X", "h"), "::1"),
    ("fe80::1%eth0", lambda env: env.host("X", "h"), "fe80::1%eth0"),
    ("alloy.", lambda env: env.host("X", "h"), "alloy."),
    ("[::1]:4000", lambda env: env.host_port("X", "h:1"), ("::1", 4000)),
    ("::1:4000", lambda env: env.host_port("X", "h:1"), ("::1", 4000)),
    ("HTTPS://logs:3100", lambda env: env.url("X", ""), "https://logs:3100"),
    ("http://[::1]:3100/push", lambda env: env.url("X", ""), "http://[::1]:3100/push"),
    ("https://logs/loki/api/v1/push", lambda env: env.url("X", ""), "https://logs/loki/api/v1/push"),
]

BAD: list[tuple[str, Reader, str]] = [
    ("wild", lambda env: env.choice("X", "a", ("a", "b")), "a, b"),
    ("maybe", lambda env: env.flag("X", default=True), "not a boolean"),
    ("fast", lambda env: env.number("X", 1, 0, 1), "from 0 to 1"),
    ("1.01", lambda env: env.number("X", 1, 0, 1), "from 0 to 1"),
    ("-0.1", lambda env: env.number("X", 1, 0, 1), "from 0 to 1"),
    ("nan", lambda env: env.number("X", 1, 0, 1), "from 0 to 1"),
    ("inf", lambda env: env.number("X", 1, 0, 1), "from 0 to 1"),
    ("x", lambda env: env.number("X", 1, 0, 86_400_000), "from 0 to 86400000"),
    ("2.5", lambda env: env.integer("X", 1, 0, 10), "from 0 to 10"),
    ("11", lambda env: env.integer("X", 1, 0, 10), "from 0 to 10"),
    ("9" * 5000, lambda env: env.integer("X", 1, 0, 10), "from 0 to 10"),
    ("0", lambda env: env.port("X", 1), "from 1 to 65535"),
    ("65536", lambda env: env.port("X", 1), "from 1 to 65535"),
    ("host", lambda env: env.host_port("X", "h:1"), "host:port"),
    ("http://host:4000", lambda env: env.host_port("X", "h:1"), "host:port"),
    (":4000", lambda env: env.host_port("X", "h:1"), "host:port"),
    ("host:0", lambda env: env.host_port("X", "h:1"), "host:port"),
    ("host:70000", lambda env: env.host_port("X", "h:1"), "host:port"),
    ("host:" + "9" * 5000, lambda env: env.host_port("X", "h:1"), "host:port"),
    *(
        (value, lambda env: env.host_port("X", "h:1"), "host:port")
        for value in ("::1", "[::1]", "[x]:80", "[:80", "a b:80", "host :80", "host:\u0663", "a..b:80")
    ),
    *(
        (value, lambda env: env.host("X", "h"), "a name or an IP address alone")
        for value in ("http://host", "host:5432", "[::1]:5432", "[host]", "[::1", "host/", "a b", "a,b", "a..b")
    ),
    ("loki:3100", lambda env: env.url("X", ""), "http://"),
    *(
        (value, lambda env: env.url("X", ""), "must include a host")
        for value in (
            *("http://", "https:///path", "http://:3100/push", "http://loki:port/push", "http://[::1/push"),
            *("http://loki:0", "http://loki:70000", "http:// loki", "http://lo\nki", "http://loki/a b", "http://a..b"),
        )
    ),
]


@pytest.mark.parametrize(("value", "read", "expected"), GOOD)
def test_a_valid_value_is_converted_to_its_type(value: str, read: Reader, expected: object) -> None:
    """Surrounding white space, letter case, and the usual words for yes and no are accepted."""
    assert read(Env({"X": value})) == expected


@pytest.mark.parametrize(("value", "read", "remedy"), BAD)
def test_an_invalid_value_is_rejected_in_one_line_with_a_remedy(value: str, read: Reader, remedy: str) -> None:
    """The line names the variable, its value, and the valid values."""
    with pytest.raises(SettingsError) as rejection:
        read(Env({"X": value}))
    text = str(rejection.value)
    assert text.startswith(f"X={value!r} ")
    assert remedy in text
    assert "\n" not in text


@pytest.mark.parametrize("empty", ["", "   "])
@pytest.mark.parametrize(
    ("read", "default"),
    [
        (lambda env: env.text("X", "d"), "d"),
        (lambda env: env.choice("X", "a", ("a", "b")), "a"),
        (lambda env: env.flag("X", default=True), True),
        (lambda env: env.number("X", 0.1, 0, 1), 0.1),
        (lambda env: env.number("X", 86_399_999, 0, 86_400_000), 86_399_999),
        (lambda env: env.integer("X", 3, 0, 9), 3),
        (lambda env: env.port("X", 4000), 4000),
        (lambda env: env.host_port("X", "h:1"), ("h", 1)),
        (lambda env: env.url("X", ""), ""),
    ],
)
def test_an_empty_variable_counts_as_unset(empty: str, read: Reader, default: object) -> None:
    """An empty `X=${X}` in a compose file must not turn anything off (OpenTelemetry specification)."""
    assert read(Env({"X": empty})) == default
    assert read(Env({})) == default


def test_each_read_variable_is_recorded_with_its_default() -> None:
    """The settings reference is tested against `variables_read`, so defaults have the usual notation."""
    env = Env({})
    env.number("DAY", 86_400_000, 1, 86_400_000)
    env.number("SHARE", 0.1, 0, 1)
    env.flag("FLAG", default=True)
    assert env.variables_read == {"DAY": "86400000", "SHARE": "0.1", "FLAG": "true"}


def test_a_password_can_come_from_a_file_and_is_in_no_error(tmp_path: Path) -> None:
    """`X_FILE` names the file, as with container secrets. Both variables, a missing or an empty file are errors."""
    file = tmp_path / "password"
    file.write_text("s3cret \n", encoding="utf-8-sig")  # as some editors write it
    assert Env({"X_FILE": str(file)}).secret("X", "default") == "s3cret "
    assert Env({"X": " secret\n"}).secret("X", "default") == " secret"
    assert Env({}).secret("X", "default") == "default"
    with pytest.raises(SettingsError, match=r"^X and X_FILE are both set; set only one of them$"):
        Env({"X": "secret", "X_FILE": str(file)}).secret("X", "default")
    with pytest.raises(SettingsError, match="cannot be read"):
        Env({"X_FILE": str(tmp_path / "none")}).secret("X", "default")
    file.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        Env({"X_FILE": str(file)}).secret("X", "default")


@pytest.mark.parametrize(
    "read",
    [
        lambda env: env.host("X", "h"),
        lambda env: env.host_port("X", "h:1"),
        lambda env: env.port("X", 1),
        lambda env: env.number("X", 1, 0, 1),
        lambda env: env.choice("X", "a", ("a",)),
        lambda env: env.flag("X", default=True),
        lambda env: env.url("X", ""),
    ],
)
@pytest.mark.parametrize("value", ["user:s3cret@host:4000", "amqp://user:s3cret@host", "http://user:s3cret@[host"])
def test_no_error_shows_the_credentials_of_an_address(read: Reader, value: str) -> None:
    """This holds for every reader."""
    with pytest.raises(SettingsError) as rejection:
        read(Env({"X": value}))
    assert "s3cret" not in str(rejection.value)


@pytest.mark.parametrize(("keep", "left"), [((), ["PATH"]), (LIBPQ_SECURITY, ["PATH", "PGSSLMODE", "PGREQUIREAUTH"])])
def test_variables_of_libpq_that_a_setting_replaces_are_removed(keep: tuple[str, ...], left: list[str]) -> None:
    """PGHOSTADDR would select another server. PGSSLMODE has no setting in the suite and stays if it is to be kept."""
    environ = dict.fromkeys(["PATH", "PGSSLMODE", "PGREQUIREAUTH", "PGHOSTADDR", "PGOPTIONS", "PGCLIENTENCODING"], "x")
    remove_libpq_variables(environ, keep=keep)
    assert list(environ) == left
