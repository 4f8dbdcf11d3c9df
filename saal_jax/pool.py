"""A pool of examples without their labels, and what passes between the loop and an acquisition about it."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from saal_jax.select.selection import Selection, random


class Pool(NamedTuple):
    """`images[N, H, W, C]` uint8, an array on the device or on disk: an `np.memmap`, or whatever has `shape`, `dtype`
    and `array[positions]`, such as `saal_jax.data.records.Records`; `ids[N]` uint32 and `names[N]` of the examples;
    `embeddings[N, D]`, if the user brought some.
    """

    images: Any
    ids: np.ndarray
    names: np.ndarray
    embeddings: np.ndarray | None = None


class Query(NamedTuple):
    """Which `k` of the examples in the mask `available[N]` should be labelled next?

    `labelled[N]` are known already, `weights` were trained on them; `classes[N]` is the class of each of these, where
    the task has such, and says nothing of the others. `sweep(score_fn, weights, arrays, mask)` gives
    `score_fn(weights, chunk) -> [B, ...]` of all examples in a mask, as `[N, ...]` with NaN elsewhere; it knows chunks,
    devices and progress, and refuses what is not finite. `arrays` is a pytree of arrays with leading axis N; `most=`
    tells how many examples the mask holds at most in a run, where they are always few.
    """

    key: jax.Array
    pool: Pool
    labelled: np.ndarray
    available: np.ndarray
    k: int
    weights: Any
    sweep: Callable
    classes: np.ndarray | None = None


class Acquired(NamedTuple):
    """The answer: what was chosen, `scores[N]` (higher = more informative, NaN where there is none) and whatever else
    the method found out, as numbers by name.
    """

    selection: Selection
    scores: np.ndarray
    metrics: dict = {}


def embed(query, features, mask) -> np.ndarray:
    """Embeddings `[N, D]` of the examples in `mask`: the user's own, or what the recipe's `features` gives."""
    if query.pool.embeddings is not None:
        return query.pool.embeddings
    return query.sweep(features, query.weights, query.pool.images, mask)


def stable_ids(names):
    """`uint32[N]` numbers of the examples' names, the same whatever their order: what random draws are folded with."""
    return np.array([zlib.crc32(name.encode()) for name in names], np.uint32)


def subset(key, ids, available, size):
    """`available[N]` restricted to a random `size` of its examples; all of them for `None`."""
    if size is None:
        return available
    chosen = np.asarray(random(key, ids, available, min(size, len(ids))).indices)
    restricted = np.zeros_like(available)
    restricted[chosen[chosen >= 0]] = True
    return restricted
