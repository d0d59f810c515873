"""Keeps the C library from giving the gateway's threads heaps of their own, of which each keeps what it once needed."""

import ctypes
import os

# From glibc's malloc.h; another C library has no such setting, nor heaps for each thread.
M_ARENA_MAX = -8


def share_one_heap() -> bool:
    """Have all threads allocate from one heap; False where the C library cannot, or MALLOC_ARENA_MAX says otherwise.

    To be called before threads are started. Left to itself, glibc has up to eight heaps for each core. What one thread
    frees no other can use, so with a thread for each sender memory goes on growing for half an hour after the window is
    full. Python's own lock lets hardly two threads allocate at a time, so nobody waits for the one heap.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "mallopt") and bool(library.mallopt(M_ARENA_MAX, 1))
