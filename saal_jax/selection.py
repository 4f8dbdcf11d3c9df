"""Selectors: from scores (or embeddings) to the `k` examples to label.

Contract, `select(key, ..., ids[N], available[N], k) -> Selection(indices[k], count)`: distinct positions of available
examples, in order of choice, padded with -1; `count = min(k, number available)`. Chance enters as one draw per example
from `fold_in(key, id)`, so the choice does not depend on the order of the pool; it also breaks ties. `k` is static.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from saal_jax.errors import InputError


class Selection(NamedTuple):
    """Positions in the data set, `indices[k]` int32 padded with -1, and how many of them are chosen, `count`."""

    indices: jax.Array
    count: jax.Array


def _selector(select):
    """Takes anything array-like, and compiles once for each size and `k`."""
    compiled = jax.jit(select, static_argnames="k")

    @functools.wraps(select)
    def wrapped(key, values, ids, available, k):
        arrays = jnp.asarray(values), jnp.asarray(ids), jnp.asarray(available).astype(bool)
        shapes = [array.shape for array in arrays]
        if k < 0 or not shapes[0][:1] == shapes[1] == shapes[2]:
            raise InputError(
                f"scores, ids and available have shapes {shapes}, k is {k}: pass one of each per example, k >= 0"
            )
        return compiled(key, *arrays, k)

    return wrapped


@_selector
def top_k(key, scores, ids, available, k):
    """The `k` available examples of the largest `scores[N]`; equal scores in random order, NaN last.

    >>> import jax, jax.numpy as jnp
    >>> top_k(jax.random.key(0), jnp.array([3.0, 9.0, 5.0]), jnp.arange(3), jnp.array([True, False, True]), 3)
    Selection(indices=Array([ 2,  0, -1], dtype=int32), count=Array(2, dtype=int32))
    """
    order = jnp.lexsort((_bits(key, ids), scores, ~jnp.isnan(scores), available))[::-1]
    return _padded(order[:k].astype(jnp.int32), available, k)


def random(key, ids, available, k):
    """`k` available examples drawn uniformly without replacement.

    >>> import jax, jax.numpy as jnp
    >>> random(jax.random.key(0), jnp.arange(3), jnp.array([True, False, False]), 2)
    Selection(indices=Array([ 0, -1], dtype=int32), count=Array(1, dtype=int32))
    """
    return top_k(key, jnp.zeros(len(ids)), ids, available, k)


@_selector
def kmeans_plusplus(key, embeddings, ids, available, k):
    """k-means++ seeding (Arthur and Vassilvitskii 2007) on `embeddings[N, D]`, or on scalar scores `[N]`.

    First the example of the largest norm (of a score: of the largest absolute value), then each next one with
    probability proportional to its squared distance to the nearest chosen one. Where all remaining distances are zero
    the released program stops in a debugger; here the draw is uniform over what is left. NaN counts as 0.

    >>> import jax, jax.numpy as jnp
    >>> scores = jnp.array([0.1, 0.1, 0.9, 0.1])
    >>> kmeans_plusplus(jax.random.key(0), scores, jnp.arange(4), jnp.ones(4, bool), 1).indices
    Array([2], dtype=int32)
    """
    size = embeddings.shape[0]
    if k == 0 or size == 0:
        return _padded(jnp.zeros(0, jnp.int32), available, k)
    embeddings = embeddings.reshape(size, math.prod(embeddings.shape[1:]))
    embeddings = embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
    embeddings = jnp.clip(jnp.nan_to_num(embeddings), -1e30, 1e30)
    largest = jnp.max(jnp.abs(embeddings), where=available[:, None], initial=0)
    embeddings = embeddings / jnp.where(largest > 0, largest, 1)  # so that no square overflows
    first = top_k(jax.random.fold_in(key, 0), jnp.square(embeddings).sum(1), ids, available, 1).indices[0]

    def choose(step, carry):
        indices, remaining, distances = carry
        chosen = indices[step - 1]
        remaining = remaining.at[chosen].set(False)
        distances = jnp.minimum(distances, jnp.square(embeddings - embeddings[chosen][None]).sum(1))
        farthest = jnp.max(distances, where=remaining, initial=0)
        weights = jnp.where(farthest > 0, distances, 1)
        gumbel = jax.vmap(jax.random.gumbel)(_keys(jax.random.fold_in(key, step), ids))
        draw = jnp.log(weights) + gumbel.astype(weights.dtype)  # its largest is a draw in proportion to the weights
        best = jnp.argmax(jnp.where(remaining & (weights > 0), draw, -jnp.inf))
        return indices.at[step].set(best.astype(jnp.int32)), remaining, distances

    start = (jnp.full(min(k, size), first, jnp.int32), available, jnp.full(size, jnp.inf, embeddings.dtype))
    indices, _, _ = jax.lax.fori_loop(1, min(k, size), choose, start)
    return _padded(indices, available, k)


def _keys(key, ids):
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def _bits(key, ids):
    return jax.vmap(jax.random.bits)(_keys(key, ids))


def _padded(order, available, k):
    count = jnp.minimum(k, available.sum()).astype(jnp.int32)
    order = jnp.pad(order, (0, k - order.size))
    return Selection(jnp.where(jnp.arange(k) < count, order, -1), count)
