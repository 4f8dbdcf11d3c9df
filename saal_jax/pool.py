"""A pool of examples without their labels, and what passes between the loop and an acquisition about it."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from saal_jax.errors import InputError
from saal_jax.select.selectors import Selection, random_k
from saal_jax.typing import Array, Key


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
    """Which `k` of the candidates in the mask `available[N * R]` should be labelled next?

    Candidates are the images of the pool (R = 1), or R regions of each, as its task says. `labelled[N * R]` are known
    already, `weights` were trained on them; `classes[N]` is the class of each of these, where the task has such and R
    is 1, and says nothing of the others. `ids[N * R]` are the numbers of the candidates, `pool.ids[N]` of the images.

    `sweep(score_fn, weights, arrays, mask)` gives `score_fn(weights, chunk) -> [B, ...]` of all images in a mask `[N]`,
    as `[N, ...]` with NaN elsewhere. Of a mask `[N * R]` of regions it takes `[B, R]`, and gives `[N * R]`. It knows
    chunks, devices and progress, and refuses what is not finite. `arrays` is a pytree of arrays with leading axis N;
    `most=` is how many the mask holds at most in a run, where they are always few.
    """

    key: jax.Array
    pool: Pool
    labelled: np.ndarray
    available: np.ndarray
    k: int
    weights: Any
    sweep: Callable
    classes: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        return candidate_ids(self.pool, len(self.available) // len(self.pool.ids))


class Acquired(NamedTuple):
    """The answer: what was chosen, `scores[N * R]` (higher = more informative, NaN where there is none) and whatever
    else the method measured, as numbers by name.
    """

    selection: Selection
    scores: np.ndarray
    metrics: dict = {}


def embed(query: Query, features: Callable, mask: Array) -> np.ndarray:
    """Embeddings `[N, D]` of the examples in `mask`: the user's own, or what the recipe's `features` gives."""
    if len(mask) != len(query.pool.ids):
        raise InputError("embeddings are of whole images, but regions of them are bought: choose what scores regions")
    if query.pool.embeddings is not None:
        return query.pool.embeddings
    return query.sweep(features, query.weights, query.pool.images, mask)


def stable_ids(names: Any) -> np.ndarray:
    """`uint32[N]` numbers of the examples' names, the same whatever their order: what random draws are folded with."""
    return np.array([zlib.crc32(name.encode()) for name in names], np.uint32)


def candidate_ids(pool: Pool, regions: int) -> np.ndarray:
    """`uint32[N * R]` numbers of the candidates: those of the images, or of `name#region` where R is above 1."""
    if regions == 1:
        return pool.ids
    return stable_ids(f"{name}#{region}" for name in pool.names for region in range(regions))


def any_region(mask: Array, size: int):
    """`[N]` of a mask of candidates `[N * R]`: the `size` images of which at least one region is in it."""
    return mask.reshape(size, -1).any(axis=1)


def subset(key: Key, ids: Array, available: np.ndarray, size: int | None) -> np.ndarray:
    """The mask `available` restricted to a random `size` of its candidates, by their `ids`; all of them for `None`."""
    if size is None:
        return available
    chosen = np.asarray(random_k(key, ids, available, min(size, len(ids))).indices)
    restricted = np.zeros_like(available)
    restricted[chosen[chosen >= 0]] = True
    return restricted
