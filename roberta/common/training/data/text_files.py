"""Files of text, line by line: UTF-8 with or without a mark at its beginning, lines that end in LF or CR LF."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


def lines(
    file: Iterable[bytes], where: str, note: Callable[[ValueError], None] | None = None
) -> Iterator[tuple[str, str]]:
    """Each line without its end, and where it is, read as they are asked for.

    Args:
        file: lines of bytes, as an open file gives them.
        where: names a line in errors, such as "data.txt:{}", where the number of the line stands for the braces.
        note: takes the error of a line that is no UTF-8, which is then left out; None raises it.

    Raises:
        ValueError: a line is no UTF-8.
    """
    before, after = where.rsplit("{}", 1)
    for number, raw in enumerate(file, 1):
        place = f"{before}{number}{after}"
        try:
            text = decoded(raw, place).rstrip("\r\n")
        except ValueError as error:
            if note is None:
                raise
            note(error)
            continue
        yield (text.removeprefix("\ufeff") if number == 1 else text), place


def decoded(raw: bytes, where: str) -> str:
    """The text of some bytes.

    Raises:
        ValueError: they are no UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is no UTF-8: {error}; convert the file") from None
