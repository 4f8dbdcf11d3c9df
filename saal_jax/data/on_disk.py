"""Images on disk, larger than memory: what can be done with them without reading them all at once."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from saal_jax.engine.memory import on_disk
from saal_jax.typing import Images

_BLOCK_BYTES = 2**24


class Rows:
    """Rows of arrays on disk that are laid one after the other: `arrays[0][rows]`, if there is but one.

    Has what all images on disk have: `shape`, `dtype`, and `rows[positions]`, which alone reads.
    """

    def __init__(self, arrays: Sequence, rows: np.ndarray):
        self._arrays, self._rows = arrays, rows
        self._starts = np.cumsum([0, *(array.shape[0] for array in arrays)])
        self.shape, self.dtype = (len(rows), *arrays[0].shape[1:]), arrays[0].dtype

    def __getitem__(self, positions):
        rows = self._rows[positions]
        images = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for array, start, stop in zip(self._arrays, self._starts[:-1], self._starts[1:], strict=True):
            here = (start <= rows) & (rows < stop)
            if here.any():
                images[here] = array[rows[here] - start]
        return images


def take(images: Images, rows: np.ndarray) -> Images:
    """`images[rows]`, of images on disk as a view."""
    return Rows([images], rows) if on_disk(images) else images[rows]


def join(parts: Sequence) -> Images:
    """The parts one after the other; of images on disk as a view."""
    if not any(map(on_disk, parts)):
        return np.concatenate(parts)
    return parts[0] if len(parts) == 1 else Rows(parts, np.arange(sum(part.shape[0] for part in parts)))


def blocks(images: Images) -> Iterator[np.ndarray]:
    """`images[N, H, W, C]` in their order, some 16 MiB at a time, and at most 2^16 images."""
    for start, stop in spans(images.shape[0], math.prod(images.shape[1:])):
        yield np.asarray(images[start:stop])


def spans(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Where each block of `count` images of `size` bytes starts and stops."""
    step = min(2**16, max(1, _BLOCK_BYTES // max(1, size)))
    for start in range(0, count, step):
        yield start, min(count, start + step)
