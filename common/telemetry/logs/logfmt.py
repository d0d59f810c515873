"""The logfmt writer: key=value pairs on one line, quoted so that no value can pass for another pair."""

import re
from collections.abc import Mapping

# What may stand bare. Anything else is quoted: a space would end the value, a quote would open one, `=` would make a
# new pair, and control characters would forge lines or colour terminals.
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,;<>()\[\]{}|~^!?*&#$-]+\Z")
_NOT_KEY = re.compile(r"[^A-Za-z0-9_.-]")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


def logfmt(fields: Mapping[str, object]) -> str:
    """Write the fields in their order, e.g. `http.method=GET error="name exists"`.

    None is left out, booleans are written true and false, floats with up to six digits. Values are quoted and escaped
    as Go's %q does, which is what Loki's logfmt parser reads (github.com/go-logfmt/logfmt).
    """
    return " ".join(f"{_key(key)}={_value(value)}" for key, value in fields.items() if value is not None)


def _key(key: str) -> str:
    return _NOT_KEY.sub("_", key) or "_"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if _BARE.match(text):
        return text
    return f'"{_UNSAFE.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    known = _ESCAPES.get(char)
    if known:
        return known
    # A lone surrogate cannot be written as UTF-8 at all; U+FFFD is what every decoder puts in its place.
    return "\ufffd" if "\ud800" <= char <= "\udfff" else f"\\u{ord(char):04x}"
