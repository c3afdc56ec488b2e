"""How the C library of this process hands out memory."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc, malloc.h
LARGEST = 2**31 - 1  # of a C int


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory instead of giving it back to the system. Returns whether it could.

    A framework allocates its large results anew in every step. glibc gets each from the system and gives it back, and
    every page costs a fault: 3 to 15 % of the CPU time of a step, measured in the three frameworks. For commands, whose
    process is theirs, and before a framework's threads are there: memory for them comes from one place then, and the
    process stays as large as it once was. Elsewhere than with glibc nothing is done.
    """
    if sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    wanted = ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, LARGEST))
    return all(set_option(option, value) for option, value in wanted)
