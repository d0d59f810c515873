"""Stacks as they are taken while threads run, and the lines they stand for, looked up when there is time."""

from collections.abc import Iterator
from types import CodeType, FrameType

from common.telemetry.pprof.proto import Frame

# Deeper recursion is cut at its outer end: while a stack is walked no other thread runs.
DEEPEST = 200

# Identity of the code and instruction offset of each call, innermost first. Line numbers would cost more to take, and
# a code object's own hash goes through all its constants.
Stack = tuple[tuple[int, int], ...]


class Stacks:
    """Takes stacks and remembers the code they ran through."""

    def __init__(self) -> None:
        self._codes: dict[int, CodeType] = {}
        self._frames: dict[tuple[int, int], Frame] = {}

    def take(self, frame: FrameType) -> Stack:
        """Walk from the innermost frame out. Keeps no frame, for that would keep its local variables alive."""
        calls: list[tuple[int, int]] = []
        outer: FrameType | None = frame
        while outer is not None and len(calls) < DEEPEST:
            code = outer.f_code
            self._codes[id(code)] = code
            calls.append((id(code), outer.f_lasti))
            outer = outer.f_back
        return tuple(calls)

    def frames(self, stack: Stack) -> Iterator[Frame]:
        """Give function, file and line of each call."""
        for call in stack:
            if call not in self._frames:
                self._frames[call] = _frame(self._codes[call[0]], call[1])
            yield self._frames[call]


def _frame(code: CodeType, offset: int) -> Frame:
    spans = (line for start, end, line in code.co_lines() if start <= offset < end and line is not None)
    return Frame(code.co_qualname, code.co_filename, next(spans, code.co_firstlineno), code.co_firstlineno)
