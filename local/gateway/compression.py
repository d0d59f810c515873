"""Decompression that stops at a limit, so that a small body cannot become a huge one."""

import zlib

from local.gateway.http_error import HttpError

GZIP = 16 + zlib.MAX_WBITS


def gunzip(data: bytes, limit: int) -> bytes:
    """Return the content of gzip `data`. Raises HttpError 400 if it is damaged, 413 if it exceeds `limit` bytes."""
    unpacker = zlib.decompressobj(GZIP)
    try:
        content = unpacker.decompress(data, limit)
        if unpacker.eof:
            return _whole(unpacker, content)
        # Only the trailer may be left; one more byte of content means that the limit was reached.
        more = unpacker.decompress(unpacker.unconsumed_tail, 1)
    except zlib.error:
        raise HttpError(400, "the gzip content is damaged") from None
    if more:
        raise HttpError(413, f"the content unpacks to more than {limit} bytes; send smaller batches")
    if not unpacker.eof:
        raise HttpError(400, "the gzip content ends too early")
    return _whole(unpacker, content)


def _whole(unpacker: "zlib._Decompress", content: bytes) -> bytes:
    # The format allows a second member; to accept the request without it would lose it silently.
    if unpacker.unused_data:
        raise HttpError(400, "data follows the end of the gzip content; send it as one member")
    return content
