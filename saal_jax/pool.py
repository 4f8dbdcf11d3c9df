"""The pool: boolean masks over examples that keep their ids."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.errors import InputError
from saal_jax.selection import Selection, random, top_k


def stable_ids(names):
    """`uint32[N]` numbers of the examples' names, the same whatever their order: what random draws are folded with."""
    return np.array([zlib.crc32(name.encode()) for name in names], np.uint32)


def class_balanced(key, labels, ids, num_classes, k) -> Selection:
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
    shuffled = np.asarray(random(key, ids, jnp.ones(len(labels), bool), len(labels)).indices)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[by_class], np.arange(num_classes))
    rank = np.empty(len(labels), np.int32)
    rank[by_class] = np.arange(len(labels)) - starts[labels[by_class]]
    return top_k(jax.random.fold_in(key, 1), -rank.astype(np.float32), ids, jnp.ones(len(labels), bool), k)


def uniform(key, labels, ids, num_classes, k) -> Selection:
    """`k` examples drawn uniformly, whatever their class."""
    del num_classes
    if k > len(labels):
        raise InputError(f"initial_labels is {k}, but there are only {len(labels)} images: lower initial_labels")
    return random(key, ids, jnp.ones(len(labels), bool), k)


FIRST_LABELS = {"class_balanced": class_balanced, "random": uniform}


def subset(key, ids, available, size):
    """`available[N]` restricted to a random `size` of its examples; all of them for `None`."""
    if size is None:
        return available
    chosen = np.asarray(random(key, ids, available, min(size, len(ids))).indices)
    restricted = np.zeros_like(available)
    restricted[chosen[chosen >= 0]] = True
    return restricted
