"""Reads a body of `Transfer-Encoding: chunked`, whose length is known only at its end.

Source of the format: RFC 9112, section 7.1. Chunk extensions and trailer fields are checked and ignored.
"""

import re
from collections.abc import Iterator
from io import BufferedIOBase

from local.gateway.http_error import HttpError

LONGEST_PIECE = 64 * 1024
# Bytes of all extensions and trailer fields of one body: they are not part of the content, which has its own limit.
MOST_EXTRA_BYTES = 16 * 1024
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
EXTENSIONS = rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (TOKEN, TOKEN, QUOTED)
# 15 digits are more than any limit, and few enough for a number that a 64-bit integer can hold.
CHUNK_HEAD = re.compile(rb"(0*[0-9A-Fa-f]{1,15})(%b)" % EXTENSIONS)
TRAILER_FIELD = re.compile(rb"%b:[\t -~\x80-\xff]*" % TOKEN)


def read_chunks(stream: BufferedIOBase) -> Iterator[bytes]:
    """Yield the content in pieces up to the end of the body; raises HttpError 400 at the first invalid byte."""
    left = MOST_EXTRA_BYTES
    while True:
        head = CHUNK_HEAD.fullmatch(_line(stream, left))
        if not head:
            raise HttpError(400, "a chunk of the body does not begin with its size in hexadecimal")
        left = _spend(left, len(head[2]))
        size = int(head[1], 16)
        if size == 0:
            break
        while size:
            piece = stream.read(min(size, LONGEST_PIECE))
            if not piece:
                raise HttpError(400, "the body ends within a chunk")
            yield piece
            size -= len(piece)
        if stream.read(2) != b"\r\n":
            raise HttpError(400, "a chunk of the body is not as long as its size says")
    while field := _line(stream, left):
        if not TRAILER_FIELD.fullmatch(field):
            raise HttpError(400, "the trailer of the body is not made of header fields")
        left = _spend(left, len(field))


def _spend(left: int, used: int) -> int:
    if used > left:
        raise HttpError(400, f"chunk extensions and trailer have more than {MOST_EXTRA_BYTES} bytes")
    return left - used


def _line(stream: BufferedIOBase, longest: int) -> bytes:
    """Return a line without its CR LF; a line end of LF alone is invalid, as a proxy may read it differently."""
    line = stream.readline(longest + 32)
    if not line.endswith(b"\r\n"):
        raise HttpError(400, "a chunk of the body does not begin with a short line that ends in CR LF")
    return line[:-2]
