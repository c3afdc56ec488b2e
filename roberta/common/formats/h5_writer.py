"""An HDF5 file written piece by piece: libhdf5 lays it out in memory without the values, which follow one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import h5py
import numpy as np

from roberta.common.formats.safetensors_file import Source, bytes_of, numpy_dtype, size_of

_PAGE = 4096


class _Layout:
    """A file of which only the pages that were written exist; the others are the places of values."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.position = 0
        self.size = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def truncate(self, size: int | None = None) -> int:
        self.size = self.position if size is None else size
        return self.size

    def flush(self) -> None:
        """Nothing to do."""

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        for page, start, stop, done in self._spans(len(view)):
            self.pages.setdefault(page, bytearray(_PAGE))[start:stop] = view[done : done + stop - start]
        self.position += len(view)
        self.size = max(self.size, self.position)
        return len(view)

    def read(self, length: int = -1) -> bytes:
        buffer = bytearray(max(0, self.size - self.position) if length < 0 else length)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        view = memoryview(buffer).cast("B")
        for page, start, stop, done in self._spans(len(view)):
            view[done : done + stop - start] = self.pages.get(page, bytes(_PAGE))[start:stop]
        self.position += len(view)
        return len(view)

    def _spans(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        """Page, first and last byte in it, and how much came before, of `length` bytes from here."""
        done = 0
        while done < length:
            page, start = divmod(self.position + done, _PAGE)
            stop = min(_PAGE, start + length - done)
            yield page, start, stop, done
            done += stop - start

    def between(self, start: int, stop: int) -> bytes:
        """The bytes of a stretch."""
        self.seek(start)
        return self.read(stop - start)


def h5_pieces(datasets: Mapping[str, Source], finish: Callable[[h5py.File], None]) -> Iterator[bytes | memoryview]:
    """The bytes of a file.

    Args:
        datasets: path -> shape, dtype and values as they are to lie in the file.
        finish: adds attributes and empty groups.
    """
    layout = _Layout()
    places: dict[int, Source] = {}
    with h5py.File(layout, "w") as file:
        for path, source in datasets.items():
            place = _reserve(file, path, source)
            if place is not None:
                places[place] = source
        finish(file)
    done = 0
    for place, source in sorted(places.items(), key=lambda item: item[0]):
        yield layout.between(done, place)
        yield bytes_of(source)
        done = place + size_of(source)
    yield layout.between(done, layout.size)


def _reserve(file: h5py.File, path: str, source: Source) -> int | None:
    """Make a dataset without values; where they are to lie."""
    shape, dtype, _ = source
    kind = numpy_dtype(dtype)
    stored = h5py.h5t.py_create(np.dtype("V2") if dtype == "bfloat16" else kind)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.CONTIGUOUS)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)  # the same bytes for the same tensors
    parent, _, name = path.rpartition("/")
    group = file.require_group(parent) if parent else file
    dataset = h5py.h5d.create(group.id, name.encode(), stored, h5py.h5s.create_simple(shape), settings)
    place: int | None = dataset.get_offset()
    return place if all(shape) else None
