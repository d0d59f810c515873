"""Settings: the environment, read once at start, typed and checked, with an error that says what to do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A setting that cannot be used; its text is one line: the variable, what it holds, what it may hold."""


class Env:
    """A typed view of environment variables.

    Every reader takes the variable's name and its default, and raises SettingsError when the value does not fit.
    A variable that is set to nothing counts as unset, as in the OpenTelemetry specification, so that an
    `X=${X}` in a compose file does not switch anything off by accident.

    `asked` keeps each name that was read, in order: the settings reference is tested against it.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.asked: dict[str, str] = {}

    @property
    def values(self) -> Mapping[str, str]:
        """All variables, as they are set."""
        return self._values

    def text(self, name: str, default: str) -> str:
        """Give the variable as it stands, without white space at its ends."""
        self.asked[name] = default
        return self._values.get(name, "").strip() or default

    def secret(self, name: str, default: str) -> str:
        """Give a password: the variable, or what stands in the file that `name`_FILE names, without a last line end."""
        value, path = self.text(name, default), self.text(f"{name}_FILE", "")
        if not path:
            return value
        if self._values.get(name, "").strip():
            raise SettingsError(f"{name} and {name}_FILE are both set; give one of them")
        try:
            told = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError):
            raise SettingsError(
                f"{name}_FILE={path!r} cannot be read; give a file of text that this user may read"
            ) from None
        if not told:
            raise SettingsError(f"{name}_FILE={path!r} is empty; write the password into it")
        return told

    def choice(self, name: str, default: str, options: Sequence[str]) -> str:
        """Give one of `options`, compared without regard to case."""
        value = self.text(name, default)
        for option in options:
            if option.lower() == value.lower():
                return option
        raise SettingsError(f"{name}={value!r} is none of {', '.join(options)}")

    def flag(self, name: str, *, default: bool) -> bool:
        """Give a boolean, written as true or false (1, 0, yes, no, on and off are understood too)."""
        value = self.text(name, str(default).lower()).lower()
        if value in ("true", "1", "yes", "on"):
            return True
        if value in ("false", "0", "no", "off"):
            return False
        raise SettingsError(f"{name}={value!r} is neither true nor false")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Give a number with low ≤ number ≤ high."""
        value = self.text(name, _digits(default))
        try:
            number = float(value)
        except ValueError:
            raise SettingsError(
                f"{name}={value!r} is not a number; give one from {_digits(low)} to {_digits(high)}"
            ) from None
        if not low <= number <= high:
            raise SettingsError(
                f"{name}={value!r} is out of range; give a number from {_digits(low)} to {_digits(high)}"
            )
        return number

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Give a whole number with low ≤ number ≤ high."""
        value = self.text(name, str(default))
        try:
            number = int(value)
        except ValueError:
            raise SettingsError(f"{name}={value!r} is not a whole number; give one from {low} to {high}") from None
        if not low <= number <= high:
            raise SettingsError(f"{name}={value!r} is out of range; give a whole number from {low} to {high}")
        return number

    def port(self, name: str, default: int) -> int:
        """Give a TCP port."""
        return self.integer(name, default, 1, 65535)

    def host_port(self, name: str, default: str) -> tuple[str, int]:
        """Give a host and a port, written host:port."""
        value = self.text(name, default)
        host, _, port = value.rpartition(":")
        # The length first: int() refuses thousands of digits with an error of its own.
        if not host or "/" in host or not port.isdecimal() or len(port) > 5 or not 1 <= int(port) <= 65535:  # noqa: PLR2004 - TCP ports
            raise SettingsError(f"{name}={value!r} is not host:port, as in {default}")
        return host, int(port)

    def url(self, name: str, default: str) -> str:
        """Give an http or https address, or the empty default."""
        value = self.text(name, default)
        if value and not value.startswith(("http://", "https://")):
            raise SettingsError(f"{name}={value!r} is not an address; it must start with http:// or https://")
        if value and not _names_a_host(value):
            raise SettingsError(f"{name}={value!r} is not an address; it must name a host, as http://host:80/path does")
        return value


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket without its partner
        return False


def _digits(number: float) -> str:
    """Write a number as people do: six digits, as `g` alone would have it, turn 86400000 into 8.64e+07."""
    return f"{number:.15g}"
