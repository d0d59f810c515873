"""The functions that lines of source files belong to, for stacks that come as file and line only."""

import re
import tokenize

from common.telemetry.pprof.proto import Frame

# What makes what stands deeper its own: a function or class with its name, or a block without one.
_HEAD = re.compile(
    r"(?:(?:async\s+)?def|class)\s+(?P<name>\w+)|(?:async|if|elif|else|for|while|with|try|except|finally|match|case)\b"
)


class Sources:
    """Reads each file once and keeps its outline, not its text."""

    def __init__(self) -> None:
        self._outlines: dict[str, list[_Line]] = {}
        self._frames: dict[tuple[str, int], Frame] = {}

    def frame(self, filename: str, line: int) -> Frame:
        """Give the frame of a line, with the functions and classes around it, by their indentation, for its name."""
        frame = self._frames.get((filename, line))
        if frame is None:
            if filename not in self._outlines:
                self._outlines[filename] = _outline(filename)
            frame = self._frames[filename, line] = _frame(self._outlines[filename], filename, line)
        return frame


# Indentation, and the name that a head gives ("": a block's head, None: no head).
_Line = tuple[int, str | None]


def _outline(filename: str) -> list[_Line]:
    """Read a file; nothing for one that cannot be read, such as code from a string."""
    try:
        with tokenize.open(filename) as source:
            return [_line(text) for text in source]
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []


def _line(text: str) -> _Line:
    bare = text.lstrip()
    head = _HEAD.match(bare)
    return len(text) - len(bare), (head["name"] or "") if head else None


def _frame(outline: list[_Line], filename: str, line: int) -> Frame:
    names: list[str] = []
    start = 0
    depth = outline[line - 1][0] if 0 < line <= len(outline) else 0
    for number in range(line - 1, 0, -1):
        indent, name = outline[number - 1] if depth else (0, None)
        if name is not None and indent < depth:
            depth = indent
            names += [name] if name else []
            start = start or (number if name else 0)
    return Frame(".".join(reversed(names)) or "<module>", filename, line, start)
