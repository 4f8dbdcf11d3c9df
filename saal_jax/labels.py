"""What is known of a pool: answers that were bought, and nothing else."""

from typing import Any, NamedTuple

import jax
import numpy as np

from saal_jax.errors import InputError


class Labels(NamedTuple):
    """`known[N]` bool, and `labels`: a pytree of arrays `[N, ...]` that say nothing where an example is not known."""

    known: np.ndarray
    labels: Any


def nothing_known(task, size: int) -> Labels:
    """The labels of `size` examples before the first answer."""
    return Labels(np.zeros(size, bool), task.empty(size))


def tell(labels: Labels, indices, answers) -> Labels:
    """`labels` with the `answers` (pytree of arrays `[k, ...]`) for the examples at `indices[k]`; replaces older ones.

    Raises:
      InputError: an index that is no position in the pool or occurs twice, or answers of another number or shape.

    >>> from saal_jax.tasks.classification import classification
    >>> tell(nothing_known(classification(3), 4), [2, 0], [1, 2]).labels
    array([ 2, -1,  1, -1], dtype=int32)
    """
    indices, size = np.asarray(indices, int), len(labels.known)
    if indices.ndim != 1 or len(set(indices.tolist())) < len(indices) or not ((0 <= indices) & (indices < size)).all():
        raise InputError(f"indices are {indices.tolist()}: pass distinct positions in a pool of {size}")

    def replaced(before, answer):
        answer = np.asarray(answer)
        if answer.shape != (len(indices), *before.shape[1:]):
            raise InputError(
                f"answers are {answer.dtype}{list(answer.shape)}: pass {[len(indices), *before.shape[1:]]}, one for "
                "each index"
            )
        after = before.copy()
        after[indices] = answer
        return after

    known = labels.known.copy()
    known[indices] = True
    leaves, structure = jax.tree.flatten(labels.labels)
    answers = [answers] if len(leaves) == 1 else structure.flatten_up_to(answers)
    return Labels(known, structure.unflatten([replaced(*pair) for pair in zip(leaves, answers, strict=True)]))
