"""A strict logfmt parser, written from the grammar of Go's logfmt decoder and independent of the suite's formatter.

    line   = pair *( " " pair )
    pair   = key "=" value
    key    = 1*( any character above space but `=` and `"` )
    value  = *( any character above space but `=` and `"` ) / quoted
    quoted = `"` *( any character from space on but `"` and `\\` / escape ) `"`
    escape = `\\` ( `"` / `\\` / "n" / "r" / "t" / "b" / "f" / "/" / "u" 4hex )

It is stricter than the decoder: one space between pairs, nothing directly after a closing quote, no key without a
value, and no characters that UTF-8 cannot encode.
"""

import re

_KEY = re.compile(r'[^\x00-\x20="]+')
_BARE = re.compile(r'[^\x00-\x20="]*')
_QUOTED = re.compile(r'"((?:[^\x00-\x1f"\\]|\\(?:["\\nrtbf/]|u[0-9a-fA-F]{4}))*)"')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class NotLogfmt(ValueError):
    """The text is not one line of logfmt."""


def parse(line: str) -> list[tuple[str, str]]:
    """Return the pairs of a line in order, or raise NotLogfmt."""
    line.encode()
    pairs, at = [], 0
    while at < len(line):
        key = _KEY.match(line, at)
        if not key or line[key.end() : key.end() + 1] != "=":
            raise NotLogfmt(f"no key at {at}: {line!r}")
        value = (_QUOTED if line.startswith('"', key.end() + 1) else _BARE).match(line, key.end() + 1)
        if not value or line[value.end() : value.end() + 1] not in ("", " "):
            raise NotLogfmt(f"no end of the value of {key.group()}: {line!r}")
        text = _ESCAPE.sub(_unescape, value.group(1)) if value.re is _QUOTED else value.group()
        pairs.append((key.group(), text))
        at = value.end() + 1
    return pairs


def _unescape(escape: re.Match[str]) -> str:
    name = escape.group(1)
    return chr(int(name[1:], 16)) if len(name) > 1 else _SHORT.get(name, name)
