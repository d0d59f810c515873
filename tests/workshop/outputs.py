"""Compare an output with the one that a page shows."""

import re

# A number (including a time or a date), or the id of a trace, a span or an instance.
ID = r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{32}\b|\b(?=[a-f]*\d)[0-9a-f]{16}\b"
NUMBER = r"(?<![A-Za-z])-?\d+(?:[.,:]\d+)*(?:e[+-]?\d+)?"
LOOSE = re.compile(rf"(?P<id>{ID})|(?P<number>{NUMBER})|(?P<gap> {{2,}}|\t)|(?P<any>…)")
STRICT = re.compile(r"(?P<any>…)")


def pattern(expected: str, *, like: bool) -> re.Pattern[str]:
    """Return the pattern for the whole output; with `like`, numbers, ids and the width of columns may differ."""
    lines = [_line(line, LOOSE if like else STRICT) for line in expected.rstrip().splitlines()]
    return re.compile("".join(lines), re.ASCII)


def _line(line: str, loose: re.Pattern[str]) -> str:
    if line.strip() == "…":
        return r"(?:[^\n]*\n)*?"
    result, position = "", 0
    for found in loose.finditer(line):
        result += re.escape(line[position : found.start()]) + _open(found)
        position = found.end()
    return result + re.escape(line[position:].rstrip()) + r"[ \t]*\n"


def _open(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "id":
        return re.sub(r"[0-9a-f]{4,}", lambda part: f"[0-9a-f]{{{len(part[0])}}}", found[0])
    return {"number": NUMBER, "gap": r"[ \t]+", "any": r"[^\n]*"}[str(kind)]


def matches(output: str, expected: str, *, like: bool) -> bool:
    """Return whether the output is the expected one, except for blanks at the ends of lines."""
    return pattern(expected, like=like).fullmatch(output.rstrip() + "\n") is not None
