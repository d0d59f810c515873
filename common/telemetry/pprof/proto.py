"""Profiles in the pprof format: the message Profile of proto/profile.proto in github.com/google/pprof, gzipped."""

import gzip
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class ValueType(NamedTuple):
    """What one number of a sample counts, such as cpu in nanoseconds."""

    type: str
    unit: str


class Frame(NamedTuple):
    """One line of a stack: the function's name, its file, the line reached and the line it starts at (0: unknown)."""

    function: str
    filename: str
    line: int
    start_line: int = 0


class ProfileWriter:
    """Gathers samples and writes them as one profile."""

    def __init__(self, types: Sequence[ValueType], period_type: ValueType, period: int, default: str) -> None:
        """Say what the numbers of each sample mean, what is sampled how often, and which of the types to show first."""
        self._types = types
        self._period_type = period_type
        self._period = period
        self._default = default
        self._strings: dict[str, int] = {"": 0}  # the format wants the empty string at index 0
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Frame, int] = {}
        self._body = bytearray()

    def add(self, stack: Iterable[Frame], values: Sequence[int], labels: Mapping[str, str]) -> None:
        """Add a sample: its stack from the innermost frame out, one number for each type, and its labels."""
        sample = _packed(1, [self._location(frame) for frame in stack]) + _packed(2, values)
        for key, value in labels.items():
            sample += _message(3, _number(1, self._string(key)) + _number(2, self._string(value)))
        self._body += _message(2, sample)

    def write(self, program: str, start_unix_ns: int, duration_ns: int) -> bytes:
        """Give the gzipped profile of this program (a file name), begun at that time and taken over that long."""
        body = self._body + b"".join(_message(1, self._value_type(kind)) for kind in self._types)
        # A mapping that claims its functions, files and lines: without it readers look for symbols in a binary.
        body += _message(
            3, _number(1, 1) + _number(5, self._string(program)) + b"".join(_number(n, 1) for n in (7, 8, 9))
        )
        body += _number(9, start_unix_ns) + _number(10, duration_ns)
        body += _message(11, self._value_type(self._period_type)) + _number(12, self._period)
        body += _number(14, self._string(self._default))
        body += b"".join(
            _message(6, text.encode(errors="replace")) for text in self._strings
        )  # last: all are known now
        return gzip.compress(bytes(body), compresslevel=6)

    def _location(self, frame: Frame) -> int:
        number = self._locations.get(frame)
        if number is None:
            number = self._locations[frame] = len(self._locations) + 1
            line = _number(1, self._function(frame)) + _number(2, frame.line)
            self._body += _message(4, _number(1, number) + _number(2, 1) + _message(4, line))
        return number

    def _function(self, frame: Frame) -> int:
        key = (frame.function, frame.filename, frame.start_line)
        number = self._functions.get(key)
        if number is None:
            number = self._functions[key] = len(self._functions) + 1
            name = self._string(frame.function)
            fields = (number, name, name, self._string(frame.filename), frame.start_line)
            self._body += _message(5, b"".join(_number(n, value) for n, value in enumerate(fields, start=1)))
        return number

    def _value_type(self, kind: ValueType) -> bytes:
        return _number(1, self._string(kind.type)) + _number(2, self._string(kind.unit))

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))


def _varint(value: int) -> bytes:
    """Encode an integer seven bits at a time, least first; a negative one as its 64-bit two's complement."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)  # wire type 0: varint


def _message(field: int, payload: bytes | bytearray) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload  # wire type 2: length-delimited


def _packed(field: int, values: Iterable[int]) -> bytes:
    return _message(field, b"".join(map(_varint, values)))
