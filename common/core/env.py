"""Settings: environment variables, read once at startup, typed and validated."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from common.core.address import host_of, shown

Number = TypeVar("Number", int, float)

# The variables of libpq, Postgres's client library, that no setting replaces: encryption and authentication.
LIBPQ_SECURITY = ("PGSSL", "PGGSS", "PGKRBSRVNAME", "PGCHANNELBINDING", "PGREQUIRE")


class SettingsError(Exception):
    """An invalid setting; the text is one line with the variable, its value without credentials, what is allowed."""


class Env:
    """A typed view of environment variables.

    Every method accepts the variable's name and its default, and raises SettingsError for an invalid value.
    A variable set to an empty string counts as unset, as in the OpenTelemetry specification, so that an
    `X=${X}` in a Compose file does not turn anything off by accident.

    `variables_read` maps each variable read so far to its default; the settings reference is tested against it.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.variables_read: dict[str, str] = {}

    @property
    def values(self) -> Mapping[str, str]:
        """All variables, as they are set."""
        return self._values

    def text(self, name: str, default: str) -> str:
        """Return the variable without leading and trailing white space."""
        self.variables_read[name] = default
        return self._values.get(name, "").strip() or default

    def secret(self, name: str, default: str) -> str:
        """Return a password with its blanks, from the variable or the file `name`_FILE, without final line breaks."""
        value, path = self._values.get(name, "").rstrip("\r\n"), self.text(f"{name}_FILE", "")
        self.variables_read[name] = default
        if not path:
            return value or default
        if value:
            raise SettingsError(f"{name} and {name}_FILE are both set; set only one of them")
        try:
            secret = Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
        except (OSError, ValueError):
            raise SettingsError(
                f"{name}_FILE={path!r} cannot be read; use a text file that this user can read"
            ) from None
        if not secret:
            raise SettingsError(f"{name}_FILE={path!r} is empty; write the password into it")
        return secret

    def choice(self, name: str, default: str, options: Sequence[str]) -> str:
        """Return one of `options`; upper and lower case are equal."""
        value = self.text(name, default)
        for option in options:
            if option.lower() == value.lower():
                return option
        raise SettingsError(f"{name}={shown(value)!r} is not one of {', '.join(options)}")

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean: true or false, also written as 1, 0, yes, no, on or off."""
        value = self.text(name, str(default).lower()).lower()
        if value in ("true", "1", "yes", "on"):
            return True
        if value in ("false", "0", "no", "off"):
            return False
        raise SettingsError(f"{name}={shown(value)!r} is not a boolean; use true or false")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number with low ≤ number ≤ high."""
        return self._number(name, default, low, high, read=float, kind="number")

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return an integer with low ≤ number ≤ high."""
        return self._number(name, default, low, high, read=int, kind="whole number")

    def _number(
        self, name: str, default: Number, low: Number, high: Number, *, read: Callable[[str], Number], kind: str
    ) -> Number:
        value = self.text(name, _digits(default))
        limits = f"{_digits(low)} to {_digits(high)}"
        try:
            number = read(value)
        except ValueError:
            raise SettingsError(f"{name}={shown(value)!r} is not a {kind}; use one from {limits}") from None
        if not low <= number <= high:
            raise SettingsError(f"{name}={shown(value)!r} is out of range; use a {kind} from {limits}")
        return number

    def port(self, name: str, default: int) -> int:
        """Return a TCP port."""
        return self.integer(name, default, 1, 65535)

    def host(self, name: str, default: str) -> str:
        """Return a host name, an IP address without brackets, a folder with a socket, or the empty default."""
        value = self.text(name, default)
        host = value if value.startswith("/") else host_of(value)
        if value and not host:
            raise SettingsError(f"{name}={shown(value)!r} is not a host; use a name or an IP address alone")
        return host

    def host_port(self, name: str, default: str) -> tuple[str, int]:
        """Return a host, as above, and a port from the form host:port."""
        value = self.text(name, default)
        before, _, port = value.rpartition(":")
        host = host_of(before)
        # The length first: int() raises another error for thousands of digits.
        number = int(port) if port.isascii() and port.isdigit() and len(port) <= len("65535") else 0
        if not host or not 1 <= number <= 65535:  # noqa: PLR2004 - TCP ports
            raise SettingsError(f"{name}={shown(value)!r} is not host:port, as in {default}")
        return host, number

    def url(self, name: str, default: str) -> str:
        """Return an http or https URL, its scheme in lower case, or the empty default."""
        scheme, separator, rest = self.text(name, default).partition("://")
        value = scheme.lower() + separator + rest if separator else scheme
        if value and not value.startswith(("http://", "https://")):
            raise SettingsError(f"{name}={shown(value)!r} is not a URL; it must start with http:// or https://")
        if value and not _has_host(value):
            raise SettingsError(
                f"{name}={shown(value)!r} is not a URL; it must include a host, as in http://host:80/path, and no blank"
            )
        return value


def remove_libpq_variables(environ: MutableMapping[str, str], *, keep: tuple[str, ...] = ()) -> None:
    """Remove the PG* variables, which are meant for other programs, except those that begin with one of `keep`.

    PGHOSTADDR, PGSERVICE, PGOPTIONS or PGCLIENTENCODING would change connections whose parameters are settings.
    """
    for name in [name for name in environ if name.startswith("PG") and not name.startswith(keep)]:
        del environ[name]


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # urlsplit() ignores line breaks and tabs, but what connects may not.
        return url.isprintable() and " " not in url and bool(host_of(parts.hostname or "")) and parts.port != 0
    except ValueError:  # an invalid port, an unmatched bracket
        return False


def _digits(number: float) -> str:
    """Format a number without an exponent: plain `g` would turn 86400000 into 8.64e+07."""
    return f"{number:.15g}"
