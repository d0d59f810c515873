"""Limits glibc to one malloc arena, so that memory does not grow with the number of threads."""

import ctypes
import os

# The option of mallopt in glibc's malloc.h; other C libraries have neither it nor one arena for each thread.
M_ARENA_MAX = -8


def share_one_arena() -> bool:
    """Limit glibc to one malloc arena; False if the C library has no such setting, or MALLOC_ARENA_MAX is set.

    Call it before threads are started. By default glibc has up to eight arenas for each core, and what was freed in one
    is not reused by another: with a thread for each sender, memory keeps growing for half an hour after the store is
    full. One arena costs no time: under the interpreter lock, threads hardly ever allocate at the same time.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "mallopt") and bool(library.mallopt(M_ARENA_MAX, 1))
