"""Decompression that stops at a limit, so that a small body cannot become a huge one."""

import importlib
import sys
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import cramjam

from local.gateway.http_error import HttpError

GZIP = 16 + zlib.MAX_WBITS
RAW_DEFLATE = -zlib.MAX_WBITS
# gzip and zstd content may be several parts in a row; each one costs a copy of the rest.
MOST_PARTS = 100
# The largest window that zstd content in HTTP may ask for, as a power of two. Source: RFC 9659.
ZSTD_WINDOW_LOG = 23
ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
try:
    zstd: Any = importlib.import_module(ZSTD)
except ImportError:  # all but this coding works without it
    zstd = None
DAMAGED: tuple[type[Exception], ...] = (
    ValueError,
    zlib.error,
    cramjam.DecompressionError,
    *([zstd.ZstdError] if zstd else []),
)
SNAPPY_FRAMED = b"\xff\x06\x00\x00sNaPpY"
BUFFER_FULL = "failed to write whole buffer"  # the text with which cramjam's functions end if a buffer is too small
# A byte of LZ4 stands for at most this many, one of Snappy for fewer. Source: lz4, doc/lz4_Block_format.md.
LARGEST_RATIO = 255


class TooLong(Exception):
    """The content has more bytes than the limit."""


def decompress(coding: str, data: bytes, limit: int) -> bytes:
    """Return the content of `data`, which has a Content-Encoding in lower case.

    Raises HttpError 415 if the coding is not supported, 400 if the data is damaged, 413 if it exceeds `limit` bytes.
    """
    unpack = CODINGS.get(coding)
    if not unpack:
        raise HttpError(415, f"Content-Encoding {coding} is not supported; send {', '.join(CODINGS)} or none")
    try:
        return unpack(data, limit)
    except DAMAGED:
        raise HttpError(400, f"the {coding} content is damaged, or ends too early") from None
    except TooLong:
        raise HttpError(413, f"the content unpacks to more than {limit} bytes; send smaller batches") from None


def _gunzip(data: bytes, limit: int) -> bytes:
    return _parts(lambda: zlib.decompressobj(GZIP), data, limit)


def _unzstd(data: bytes, limit: int) -> bytes:
    options = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return _parts(lambda: zstd.ZstdDecompressor(options=options), data, limit)


def _deflate(data: bytes, limit: int) -> bytes:
    """Decompress what HTTP calls deflate: zlib's format; or without zlib's header, as Loki and some clients have it."""
    try:
        content, rest = _inflate(zlib.decompressobj(), data, limit)
    except zlib.error:
        content, rest = _inflate(zlib.decompressobj(RAW_DEFLATE), data, limit)
    if rest:
        raise ValueError("data follows the end of the content")
    return content


def _unsnap(data: bytes, limit: int) -> bytes:
    """Decompress a block of Snappy, or a stream in its framing format."""
    if data.startswith(SNAPPY_FRAMED):
        return _into_buffer(cramjam.snappy.decompress_into, data, limit)
    if cramjam.snappy.decompress_raw_len(data) > limit:
        raise TooLong
    return bytes(cramjam.snappy.decompress_raw(data))


def _into_buffer(unpack: Callable[[bytes, bytearray], int], data: bytes, limit: int) -> bytes:
    content = bytearray(min(limit, LARGEST_RATIO * len(data)))  # not always `limit`: clearing 16 MB takes 2 ms
    try:
        size = unpack(data, content)
    except cramjam.DecompressionError as error:
        if BUFFER_FULL in str(error):
            raise TooLong from None
        raise
    return bytes(memoryview(content)[:size])


def _parts(unpacker: Callable[[], Any], data: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    for _ in range(MOST_PARTS):
        piece, data = _inflate(unpacker(), data, limit)
        pieces.append(piece)
        limit -= len(piece)
        if not data:
            return b"".join(pieces)
    raise ValueError("too many parts")


def _inflate(unpacker: Any, data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Return the content, and what follows it."""
    content = unpacker.decompress(data, limit + 1)
    if len(content) > limit:
        raise TooLong
    if not unpacker.eof:
        raise ValueError("the content ends too early")
    return content, unpacker.unused_data


# Those that the HTTP receivers of the OpenTelemetry Collector accept.
CODINGS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "deflate": _deflate,
    "zlib": _deflate,
    "snappy": _unsnap,
    "x-snappy-framed": _unsnap,
    "lz4": partial(_into_buffer, cramjam.lz4.decompress_into),
    **({"zstd": _unzstd} if zstd else {}),
}
