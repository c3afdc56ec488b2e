"""How the C library of this process hands out memory."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc, malloc.h
_LARGEST = 2**31 - 1  # of a C int


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory instead of giving it back to the system. Returns whether it could.

    A framework allocates its large results again in every step. glibc gets each from the system and gives it back, and
    every page costs a fault: 3 to 15 % of the CPU time of a step in our measurements of the three frameworks. Only for
    commands, which own their process, and before a framework starts its threads: these then share one arena, and the
    process never shrinks. Without glibc, nothing is done.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, _LARGEST))
    return all(set_option(option, value) for option, value in wanted)
