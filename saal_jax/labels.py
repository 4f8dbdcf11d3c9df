"""What is known of a pool: answers that were bought, and nothing else."""

from typing import Any, NamedTuple

import jax
import numpy as np

from saal_jax.errors import InputError
from saal_jax.typing import Array, PyTree


class Labels(NamedTuple):
    """`known[N * R]` bool, of candidates (`[N]` where images are bought as a whole, R = 1), and `values`: a pytree of
    arrays `[N, ...]`, one for each image, that say nothing where a candidate is not known.
    """

    known: np.ndarray
    values: Any


def nothing_known(task: Any, size: int) -> Labels:
    """The labels of `size` examples before the first answer."""
    return Labels(np.zeros(size * task.regions, bool), task.empty(size))


def tell(labels: Labels, indices: Array, answers: PyTree, task: Any = None) -> Labels:
    """`labels` with the `answers` (pytree of arrays `[k, ...]`) for candidates at `indices[k]`; replaces older ones.

    `task` may be left out where images are bought as a whole; else it says how the answer for a region, a part of a
    label, is put into the label of its image.

    Raises:
      InputError: an index that is no position in the pool or occurs twice, or answers of another number or shape.

    >>> from saal_jax.tasks.classification import classification
    >>> tell(nothing_known(classification(3), 4), [2, 0], [1, 2]).values
    array([ 2, -1,  1, -1], dtype=int32)
    """
    indices, size, regions = np.asarray(indices, int), len(labels.known), task.regions if task else 1
    if indices.ndim != 1 or len(set(indices.tolist())) < len(indices) or not ((0 <= indices) & (indices < size)).all():
        raise InputError(f"indices are {indices.tolist()}: pass distinct positions in a pool of {size}")
    images = len(jax.tree.leaves(labels.values)[0])
    if size != regions * images:
        raise InputError(
            f"{size} candidates are not {regions} of each of {images} images: pass the task of these labels"
        )
    before: list
    structure: Any
    before, structure = jax.tree.flatten(parts_of(labels.values, indices, task))
    answers = [np.asarray(part) for part in ([answers] if len(before) == 1 else structure.flatten_up_to(answers))]
    for part, answer in zip(before, answers, strict=True):
        if answer.shape != part.shape:
            raise InputError(
                f"answers are {answer.dtype}{list(answer.shape)}: pass {list(part.shape)}, one for each index"
            )
    known, after = labels.known.copy(), jax.tree.map(lambda array: array.copy(), labels.values)
    known[indices] = True
    if regions == 1:
        _write(after, indices, structure.unflatten(answers))
    else:
        for row, index in enumerate(indices):
            image, answer = task.image_of(index), structure.unflatten([part[row] for part in answers])
            _write(after, image, task.with_part(_read(after, image), task.region_of(index), answer))
    return Labels(known, after)


def parts_of(labels: PyTree, indices: Array, task: Any = None) -> PyTree:
    """Of `labels`, a pytree of arrays of numpy `[N, ...]`, the answers `[k, ...]` for the candidates at `indices[k]`:
    what an oracle returns that knows all of them.
    """
    indices = np.asarray(indices, int)
    if task is None or task.regions == 1:
        return _read(labels, indices)
    images, regions = task.image_of(indices), task.region_of(indices)
    parts = [task.part(_read(labels, image), region) for image, region in zip(images, regions, strict=True)]
    if not parts:  # an empty row of what they would be
        return jax.tree.map(lambda part: np.asarray(part)[None][:0], task.part(_read(labels, 0), 0))
    return jax.tree.map(lambda *parts: np.stack(parts), *parts)


def _read(labels, at):
    return jax.tree.map(lambda array: array[at], labels)


def _write(labels, at, new):
    for array, values in zip(jax.tree.leaves(labels), jax.tree.leaves(new), strict=True):
        array[at] = values
