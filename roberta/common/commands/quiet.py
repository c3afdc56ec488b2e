"""What a command does not print: the banners of frameworks, and a warning more than once."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

# Lines that TensorFlow and XLA write on standard error when they are loaded, whatever their settings.
_GREETING = re.compile(
    r"WARNING: All log messages before absl::InitializeLog|"
    r"[IW]\d{4} \d\d:\d\d:\d\d|[IW]0000 \d\d:\d\d:\d+|[IW]\d{4} \d+[:.]|"
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] |"
    r"To enable the following instructions:|An NVIDIA GPU may be present"
)
_NUMBER = re.compile(r"\d[\d,.]*")


@contextlib.contextmanager
def greetings_left_out() -> Iterator[None]:
    """Hold back what C libraries write on standard error; at the end of the block, print all of it but banners.

    The libraries' own settings come too late for the first lines, or do not affect them.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            said = [line for line in held if not _GREETING.match(line.decode(errors="replace"))]
            os.write(2, b"".join(said))


@contextlib.contextmanager
def warnings_once(say: Callable[[str], None]) -> Iterator[None]:
    """Print a warning for users once, whatever its numbers; at the end of the block, print how many more there were.

    Args:
        say: prints a text.
    """
    counts: dict[str, int] = {}

    def show(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        key = _NUMBER.sub("0", str(message))
        counts[key] = counts.get(key, 0) + 1
        if counts[key] == 1:
            say(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
    more = sum(count - 1 for count in counts.values())
    if more:
        say(f"{more} more warnings of this kind")
