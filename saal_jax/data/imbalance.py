"""Imbalanced variants of a data set: a training split cut down to exact class counts; the test split stays as it is.

A function of `IMBALANCES` takes options and returns `transform(split, num_classes) -> split`. Which images of a class
stay is drawn by their ids, so it is the same for every seed and in whatever order the split is; they keep their order.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from saal_jax.data.load import Split
from saal_jax.data.on_disk import take
from saal_jax.errors import InputError
from saal_jax.keys import make_key, named
from saal_jax.pool import stable_ids
from saal_jax.select.selectors import random_k

Count = Annotated[int, Ge(1)]
Ratio = Annotated[float, Gt(0), Le(1)]
Transform = Callable[[Split, int], Split]


def natural() -> Transform:
    """All images."""
    return lambda split, num_classes: split


def alternating(*, few: Count = 50, many: Count = 5000) -> Transform:
    """`few` images of each class of even label, `many` of each of odd label (ST-CoNAL, Baik et al. 2022).

    The defaults are those for CIFAR-10; for CIFAR-100 they are 5 and 500. The transform raises `InputError` where a
    class has fewer.

    >>> import numpy as np
    >>> split = Split(np.zeros((6, 1, 1, 1), np.uint8), np.array([0, 0, 0, 1, 1, 1]), np.array(list("abcdef")))
    >>> alternating(few=1, many=3)(split, 2).labels
    array([0, 1, 1, 1])
    """

    def counts(sizes):
        options = [("few", few), ("many", many)]
        for label, size in enumerate(sizes):
            option, count = options[label % 2]
            if size < count:
                raise InputError(
                    f"imbalance alternating: {option} is {count}, but the class of label {label} has only {size} "
                    f"images; lower {option}"
                )
        return [options[label % 2][1] for label in range(len(sizes))]

    return _keep(counts)


def long_tailed(*, largest: Count = 5000, ratio: Ratio = 0.01) -> Transform:
    """Of label `c` among `C`, `largest * ratio ** (c / (C - 1))` images: each class fewer than the one before.

    Rounded down, as in the programs that published such variants of CIFAR; at least one, at most what the class has.

    >>> import numpy as np
    >>> labels = np.repeat(np.arange(3), 9)
    >>> split = Split(np.zeros((27, 1, 1, 1), np.uint8), labels, np.arange(27).astype(str))
    >>> np.bincount(long_tailed(largest=8, ratio=0.25)(split, 3).labels)
    array([8, 4, 2])
    """

    def counts(sizes):
        exponents = np.arange(len(sizes)) / max(len(sizes) - 1, 1)
        return [min(size, max(1, int(largest * ratio**e))) for size, e in zip(sizes, exponents.tolist(), strict=True)]

    return _keep(counts)


IMBALANCES = {function.__name__: function for function in (natural, alternating, long_tailed)}


def _keep(counts):
    """The transform that keeps `counts(sizes of the classes)` images of each class."""

    def transform(split, num_classes):
        wanted = counts(np.bincount(split.labels, minlength=num_classes).tolist())
        by_name = np.argsort(split.ids)  # so that not even equal draws depend on the order of the split
        everything = np.ones(len(by_name), bool)
        drawn = random_k(
            named(make_key(0), "imbalance"), stable_ids(split.ids[by_name]), everything, len(by_name)
        ).indices
        order = by_name[np.asarray(drawn)]
        kept = [order[split.labels[order] == label][:count] for label, count in enumerate(wanted)]
        rows = np.sort(np.concatenate(kept))
        return Split(take(split.images, rows), split.labels[rows], split.ids[rows])

    return transform
