"""Decompresses Snappy and LZ4, which the standard library lacks.

Sources of the formats: format_description.txt and framing_format.txt in github.com/google/snappy;
doc/lz4_Block_format.md and doc/lz4_Frame_format.md in github.com/lz4/lz4. Checksums are not verified: HTTP runs over
TCP, which has its own, and what is decompressed is parsed next.

All functions return the content, and raise ValueError if the data is damaged, or TooLong if the content would have
more than `limit` bytes.
"""

from collections.abc import Iterator

SNAPPY_FRAMED = b"\xff\x06\x00\x00sNaPpY"
LZ4_FRAMED = b"\x04\x22\x4d\x18"
STORED = 1 << 31  # in the size of an LZ4 block: it is not compressed


class TooLong(Exception):
    """The content has more bytes than the limit."""


def snappy(data: bytes, limit: int) -> bytes:
    """Decompress a block of Snappy, or a stream in its framing format."""
    return _snappy_frames(data, limit) if data.startswith(SNAPPY_FRAMED) else _snappy_block(data, limit)


def _snappy_block(data: bytes, limit: int) -> bytes:
    size, at = _varint(data)
    if size > limit:
        raise TooLong
    content = bytearray()
    while at < len(data):
        tag, at = data[at], at + 1
        kind, high = tag & 3, tag >> 2
        if kind == 0:
            number = max(0, high - 59)  # of the bytes that hold a length above 60
            length = 1 + (int.from_bytes(data[at : at + number], "little") if number else high)
            at += number + length
            content += data[at - length : at]
        else:
            number = (0, 1, 2, 4)[kind]
            offset = int.from_bytes(data[at : at + number], "little")
            at += number
            if kind == 1:
                offset, high = offset | tag >> 5 << 8, 3 + (high & 7)
            _repeat(content, offset, 1 + high)
        if at > len(data) or len(content) > size:
            break
    if at != len(data) or len(content) != size:
        raise ValueError("the block does not have the length that it begins with")
    return bytes(content)


def _varint(data: bytes) -> tuple[int, int]:
    """Return the number at the start of `data`, and how many bytes it has."""
    number = 0
    for at, byte in enumerate(data[:5]):
        number |= (byte & 0x7F) << 7 * at
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that another byte follows
            return number, at + 1
    raise ValueError("the block does not begin with its length")


def _snappy_frames(data: bytes, limit: int) -> bytes:
    content = bytearray()
    for kind, chunk in _chunks(data):
        if kind == 0:
            content += _snappy_block(chunk[4:], limit)
        elif kind == 1:
            content += chunk[4:]
        elif kind < 0x80:  # noqa: PLR2004 - from here on, chunks may be skipped
            raise ValueError("the stream has a chunk of an unknown kind")
        if len(content) > limit:
            raise TooLong
    return bytes(content)


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the content of each chunk of a Snappy stream."""
    at = 0
    while at < len(data):
        start, at = at + 4, at + 4 + int.from_bytes(data[at + 1 : at + 4], "little")
        if at > len(data):
            raise ValueError("the stream ends within a chunk")
        yield data[start - 4], data[start:at]


def lz4(data: bytes, limit: int) -> bytes:
    """Decompress a frame of LZ4."""
    if not data.startswith(LZ4_FRAMED) or len(data) < 7:  # noqa: PLR2004 - the shortest head of a frame
        raise ValueError("the content is not an LZ4 frame")
    flags = data[4]
    at = 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)  # content size and dictionary
    content = bytearray()
    while size := int.from_bytes(data[at : at + 4], "little"):
        start = at + 4
        end = start + (size & ~STORED)
        at = end + 4 * (flags >> 4 & 1)  # checksum of the block
        if size & STORED:
            content += data[start:end]
        else:
            _lz4_block(data[start:end], content, limit)
        if len(content) > limit:
            raise TooLong
    if at + 4 > len(data):
        raise ValueError("the frame ends without its end mark")
    return bytes(content)


def _lz4_block(block: bytes, content: bytearray, limit: int) -> None:
    """Append the content of a block to that of the blocks before it, which it may refer to."""
    at = 0
    while at < len(block):
        token = block[at]
        length, at = _extended(token >> 4, block, at + 1)
        at += length
        content += block[at - length : at]
        if at >= len(block):
            break
        offset = int.from_bytes(block[at : at + 2], "little")
        length, at = _extended(token & 15, block, at + 2)
        if len(content) + length + 4 > limit:
            raise TooLong
        _repeat(content, offset, length + 4)
    if at != len(block):
        raise ValueError("the block ends within a sequence")


def _extended(length: int, block: bytes, at: int) -> tuple[int, int]:
    """Return a length that more bytes may add to, and where these end."""
    more = 255 if length == 15 else 0  # noqa: PLR2004 - the largest of four bits
    while more == 255:  # noqa: PLR2004
        if at >= len(block):
            raise ValueError("the block ends within a length")
        more, at = block[at], at + 1
        length += more
    return length, at


def _repeat(content: bytearray, offset: int, length: int) -> None:
    """Append `length` bytes that begin `offset` bytes before the end; they may overlap with what they append."""
    if not 0 < offset <= len(content):
        raise ValueError("a reference leads to before the content")
    start = len(content) - offset
    if offset >= length:
        content += content[start : start + length]
    else:
        content += (content[start:] * (length // offset + 1))[:length]
