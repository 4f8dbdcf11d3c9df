"""The first examples to label, before any model: balanced between classes, or by chance."""

import jax.numpy as jnp
import numpy as np

from saal_jax.errors import InputError
from saal_jax.keys import named
from saal_jax.select.selectors import Selection, random_k, top_k
from saal_jax.typing import Array, Key


def class_balanced(key: Key, labels: Array, ids: Array, num_classes: int, k: int) -> Selection:
    """`k` examples with every class as often as the next, as far as it goes; which ones is drawn by id.

    The examples of a class are shuffled, then all are ordered by their rank within their class: the first `k` of that
    order differ by at most one between classes, unless a class has run out.
    """
    if k > len(labels):
        raise InputError(f"initial_labels is {k}, but there are only {len(labels)} images: lower initial_labels")
    missing = np.setdiff1d(np.arange(num_classes), labels)
    if missing.size and k >= num_classes:
        raise InputError(
            f"class {missing[0]} has no example to be among the {k} class-balanced first labels: "
            "add images of it or remove it from the classes"
        )
    shuffled = np.asarray(random_k(named(key, "order"), ids, jnp.ones(len(labels), bool), len(labels)).indices)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[by_class], np.arange(num_classes))
    rank = np.empty(len(labels), np.int32)
    rank[by_class] = np.arange(len(labels)) - starts[labels[by_class]]
    return top_k(named(key, "classes"), -rank.astype(np.float32), ids, jnp.ones(len(labels), bool), k)


def uniform(key: Key, labels: Array, ids: Array, num_classes: int, k: int) -> Selection:
    """`k` examples drawn uniformly, whatever their class."""
    del num_classes
    if k > len(labels):
        raise InputError(f"initial_labels is {k}, but there are only {len(labels)} images: lower initial_labels")
    return random_k(key, ids, jnp.ones(len(labels), bool), k)


FIRST_LABELS = {"class_balanced": class_balanced, "random": uniform}
