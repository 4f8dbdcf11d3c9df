"""What passes between the loop and an acquisition: the question of one cycle, and its answer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from saal_jax.selection import Selection


class Pool(NamedTuple):
    """`images[N, H, W, C]` uint8 and `labels[N]` on the device; `ids[N]` uint32 and `names[N]` of the examples;
    `embeddings[N, D]`, if the user brought some.
    """

    images: jax.Array
    labels: jax.Array
    ids: np.ndarray
    names: np.ndarray
    embeddings: np.ndarray | None = None


class Query(NamedTuple):
    """Which `k` of the examples in the mask `available[N]` should be labelled next?

    `labelled[N]` are known already, `weights` were trained on them. `sweep(score_fn, weights, arrays, mask)`
    gives `score_fn(weights, chunk) -> [B, ...]` of all examples in a mask, as `[N, ...]` with NaN elsewhere; it knows
    chunks, devices and progress, and refuses what is not finite. `arrays` is a pytree of arrays with leading axis N;
    `most=` tells how many examples the mask holds at most in a run, where they are always few.
    """

    key: jax.Array
    pool: Pool
    labelled: np.ndarray
    available: np.ndarray
    k: int
    weights: Any
    sweep: Callable


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
