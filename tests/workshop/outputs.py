"""Whether an output is the one that a page shows."""

import re

# A number (also a time or a date of several), or the id of a trace, a span or an instance.
ID = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{32}\b|\b(?=[a-f]*\d)[0-9a-f]{16}\b"
NUMBER = r"(?<![A-Za-z])-?\d+(?:[.,:]\d+)*(?:e[+-]?\d+)?"
LOOSE = re.compile(rf"(?P<id>{ID})|(?P<number>{NUMBER})|(?P<gap> {{2,}}|\t)|(?P<any>…)")
STRICT = re.compile(r"(?P<any>…)")


def pattern(expected: str, *, like: bool) -> re.Pattern[str]:
    """Give what the whole output has to match; `like` leaves figures, ids and the width of columns open."""
    lines = [_line(line, LOOSE if like else STRICT) for line in expected.rstrip().splitlines()]
    return re.compile("".join(lines), re.ASCII)


def _line(line: str, loose: re.Pattern[str]) -> str:
    if line.strip() == "…":
        return r"(?:[^\n]*\n)*?"
    made, place = "", 0
    for found in loose.finditer(line):
        made += re.escape(line[place : found.start()]) + _open(found)
        place = found.end()
    return made + re.escape(line[place:].rstrip()) + r"[ \t]*\n"


def _open(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "id":
        return re.sub(r"[0-9a-f]{4,}", lambda part: f"[0-9a-f]{{{len(part[0])}}}", found[0])
    return {"number": NUMBER, "gap": r"[ \t]+", "any": r"[^\n]*"}[str(kind)]


def matches(said: str, expected: str, *, like: bool) -> bool:
    """Whether the output is the expected one, up to blanks at the ends of lines."""
    return pattern(expected, like=like).fullmatch(said.rstrip() + "\n") is not None
