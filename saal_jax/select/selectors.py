"""Selectors: from scores (or embeddings) to the `k` examples to label.

Contract, `select(key, ..., ids[N], available[N], k) -> Selection(indices[k], count)`: distinct positions of available
examples, in order of choice, padded with -1; `count = min(k, number available)`. Chance enters as one draw per example
from a key of its id, so the choice does not depend on the order of the pool; it also breaks ties. A key of another
generator than threefry2x32 draws one of that first. `k` is static.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.deprecation import renamed
from saal_jax.errors import InputError
from saal_jax.keys import as_threefry, named, of_each
from saal_jax.select.distances import nearest_of, squared_to
from saal_jax.typing import Array, Key

_Select = TypeVar("_Select", bound=Callable)


class Selection(NamedTuple):
    """Positions in the data set, `indices[k]` int32 padded with -1, and how many of them are chosen, `count`."""

    indices: jax.Array
    count: jax.Array  # type: ignore[assignment]  # tuples have a method of that name


def _selector(select: _Select) -> _Select:
    """Takes anything array-like with a row per example, and compiles once for each size and `k`."""
    compiled, signature = jax.jit(select, static_argnames="k"), inspect.signature(select)

    @functools.wraps(select)
    def wrapped(*args, **kwargs):
        arguments = signature.bind(*args, **kwargs).arguments
        key, k, ids = as_threefry(arguments.pop("key")), arguments.pop("k"), arguments["ids"]
        dtype = ids.dtype if hasattr(ids, "dtype") else np.asarray(ids).dtype
        if not np.issubdtype(dtype, np.integer):
            raise InputError(f"ids are of dtype {dtype}: pass a whole number per example, such as np.arange(N)")
        arrays = {name: jnp.asarray(value) for name, value in arguments.items() if value is not None}
        shapes = [array.shape for array in arrays.values()]
        if k < 0 or arrays["available"].ndim != 1 or {shape[:1] for shape in shapes} != {arrays["ids"].shape}:
            raise InputError(
                f"{', '.join(arrays)} have the shapes {', '.join(map(str, shapes))}, k is {k}: pass one row of each "
                "per example, k >= 0"
            )
        masses = arrays.get("sample_weight")
        if masses is not None and not isinstance(masses, jax.core.Tracer) and (masses < 0).any():
            raise InputError(f"sample_weight goes down to {jnp.nanmin(masses)}: it must be 0 or more")
        masks = {name: arrays[name].astype(bool) for name in ("available", "labelled") if name in arrays}
        return compiled(key, k=k, **arrays | masks)

    return cast(_Select, wrapped)


@_selector
def top_k(key: Key, scores: Array, ids: Array, available: Array, k: int) -> Selection:
    """The `k` available examples of the largest `scores[N]`; equal scores in random order, NaN last.

    >>> import jax, jax.numpy as jnp
    >>> top_k(jax.random.key(0), jnp.array([3.0, 9.0, 5.0]), jnp.arange(3), jnp.array([True, False, True]), 3)
    Selection(indices=Array([ 2,  0, -1], dtype=int32), count=Array(2, dtype=int32))
    """
    order = jnp.lexsort((_bits(named(key, "ties"), ids), scores, ~jnp.isnan(scores), available))[::-1]
    return _padded(order[:k].astype(jnp.int32), available, k)


def random_k(key: Key, ids: Array, available: Array, k: int) -> Selection:
    """`k` available examples drawn uniformly without replacement.

    >>> import jax, jax.numpy as jnp
    >>> random_k(jax.random.key(0), jnp.arange(3), jnp.array([True, False, False]), 2)
    Selection(indices=Array([ 0, -1], dtype=int32), count=Array(1, dtype=int32))
    """
    return top_k(key, jnp.zeros(len(ids)), ids, available, k)


@renamed(weights="sample_weight")
@_selector
def kmeans_plusplus(
    key: Key, embeddings: Array, ids: Array, available: Array, k: int, sample_weight: Array | None = None
) -> Selection:
    """k-means++ seeding (Arthur and Vassilvitskii 2007) on `embeddings[N, D]`, or on scalar scores `[N]`.

    First the example of the largest norm (of a score: of the largest absolute value), then each next one with
    probability proportional to its squared distance to the nearest chosen one. With `sample_weight[N]`, 0 or more,
    first the one of the largest weight, then in proportion to weight times squared distance. Where all of that is zero
    the released program of SAAL stops in a debugger; here the draw is uniform over what is left. NaN counts as 0.

    >>> import jax, jax.numpy as jnp
    >>> scores = jnp.array([0.1, 0.1, 0.9, 0.1])
    >>> kmeans_plusplus(jax.random.key(0), scores, jnp.arange(4), jnp.ones(4, bool), 1).indices
    Array([2], dtype=int32)
    """
    embeddings = _scaled(embeddings, available)
    norms = jnp.square(embeddings).sum(1)
    first = norms if sample_weight is None else _finite(sample_weight)
    masses = jnp.ones_like(norms) if sample_weight is None else first

    return _spread(key, first, masses, lambda row: squared_to(embeddings, row), ids, available, k)


@_selector
def gradient_kmeans_plusplus(
    key: Key, residuals: Array, features: Array, ids: Array, available: Array, k: int
) -> Selection:
    """k-means++ seeding on the outer products of `residuals[N, C]` and `features[N, D]`, which are never formed.

    With the residuals a = softmax(logits) - onehot(argmax) and the penultimate features h these are the gradients of
    the loss at the pseudo label by the last layer's weights: BADGE (Ash et al., ICLR 2020). First the largest norm
    |a| |h|. With p = |a_i - a_j|^2, q = |h_i - h_j|^2, A = |a|^2 and H = |h|^2 the squared distance is

        ((A_i - A_j) (H_i - H_j) + (A_i + A_j) q + (H_i + H_j) p - p q) / 2

    which is A_i H_i + A_j H_j - 2 (a_i . a_j) (h_i . h_j) without its cancellation: of equal examples it is exactly 0.
    An example with NaN or an infinite norm comes last. Beside the arguments, memory for a few numbers per example.

    >>> import jax, jax.numpy as jnp
    >>> residuals, features = jnp.array([[0.5, -0.5], [0.1, -0.1]]), jnp.array([[1.0], [2.0]])
    >>> gradient_kmeans_plusplus(jax.random.key(0), residuals, features, jnp.arange(2), jnp.ones(2, bool), 1).indices
    Array([0], dtype=int32)
    """
    a, h = jnp.square(residuals).sum(1), jnp.square(features).sum(1)
    norms = jnp.where(jnp.isfinite(a * h), a * h, -1)

    def squared_distances(chosen):
        p, q = squared_to(residuals, chosen), squared_to(features, chosen)
        doubled = (a - a[chosen]) * (h - h[chosen]) + (a + a[chosen]) * q + (h + h[chosen]) * p - p * q
        return jnp.where(norms >= 0, jnp.maximum(doubled, 0), 0)

    return _spread(key, norms, jnp.ones_like(norms), squared_distances, ids, available, k)


@_selector
def k_center(key: Key, embeddings: Array, ids: Array, available: Array, labelled: Array, k: int) -> Selection:
    """k-centre greedy on `embeddings[N, D]`: core-set (Sener and Savarese, ICLR 2018).

    Each next example is the one farthest (Euclidean) from all `labelled[N]` and all chosen so far; of equally far ones
    a random one, and so the first where nothing is labelled. NaN counts as 0.

    >>> import jax, jax.numpy as jnp
    >>> labelled = jnp.array([True, False, False, False])
    >>> points = jnp.array([[0.0], [1.0], [5.0], [9.0]])
    >>> k_center(jax.random.key(0), points, jnp.arange(4), ~labelled, labelled, 2).indices
    Array([3, 2], dtype=int32)
    """
    size = len(ids)
    if k == 0 or size == 0:
        return _padded(jnp.zeros(0, jnp.int32), available, k)
    embeddings = _scaled(embeddings, available | labelled)
    bits = _bits(named(key, "ties"), ids) | 1
    nearest = nearest_of(embeddings, labelled)
    distances = jnp.square(embeddings - embeddings[nearest]).sum(1)

    def choose(step, carry):
        indices, remaining, distances = carry
        farthest = remaining & (distances == jnp.max(distances, where=remaining, initial=0))
        best = jnp.argmax(jnp.where(farthest, bits, 0)).astype(jnp.int32)
        distances = jnp.minimum(distances, squared_to(embeddings, best))
        return indices.at[step].set(best), remaining.at[best].set(False), distances

    start = (jnp.zeros(min(k, size), jnp.int32), available, jnp.where(labelled.any(), distances, jnp.inf))
    indices, _, _ = jax.lax.fori_loop(0, min(k, size), choose, start)
    return _padded(indices, available, k)


def selected(positions: Array, k: int) -> Selection:
    """The `Selection` of positions that were chosen on the host, at most `k` of them."""
    indices = np.full(k, -1, np.int32)
    indices[: len(positions)] = positions
    return Selection(jnp.asarray(indices), jnp.int32(len(positions)))


def _spread(key, first, masses, squared_distances, ids, available, k):
    """The largest of `first[N]`, then each with probability proportional to mass times D^2."""
    size = len(ids)
    if k == 0 or size == 0:
        return _padded(jnp.zeros(0, jnp.int32), available, k)
    start = top_k(named(key, "first"), first, ids, available, 1).indices[0]

    def choose(step, carry):
        indices, remaining, distances = carry
        chosen = indices[step - 1]
        remaining = remaining.at[chosen].set(False)
        distances = jnp.minimum(distances, squared_distances(chosen))
        mass = jnp.log(masses) + jnp.log(distances)
        mass = jnp.where((remaining & (mass > -jnp.inf)).any(), mass, 0)
        gumbel = jax.vmap(jax.random.gumbel)(of_each(named(key, "step", step), ids))
        draw = mass + gumbel.astype(mass.dtype)  # its largest is a draw in proportion to exp(mass)
        best = jnp.argmax(jnp.where(remaining & (mass > -jnp.inf), draw, -jnp.inf))
        return indices.at[step].set(best.astype(jnp.int32)), remaining, distances

    state = (jnp.full(min(k, size), start, jnp.int32), available, jnp.full(size, jnp.inf, first.dtype))
    indices, _, _ = jax.lax.fori_loop(1, min(k, size), choose, state)
    return _padded(indices, available, k)


def _scaled(embeddings, mask):
    """Rows `[N, D]` with numbers up to 2, so that no square overflows; a power of two, so that nothing is rounded."""
    size = embeddings.shape[0]
    embeddings = _finite(embeddings.reshape(size, math.prod(embeddings.shape[1:])))
    _, exponent = jnp.frexp(jnp.max(jnp.abs(embeddings), where=mask[:, None], initial=0))
    return jnp.ldexp(embeddings, -exponent)


def _finite(values):
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.clip(jnp.nan_to_num(values), -1e30, 1e30)


def _bits(key, ids):
    return jax.vmap(jax.random.bits)(of_each(key, ids))


def _padded(order, available, k):
    count = jnp.minimum(k, available.sum()).astype(jnp.int32)
    order = jnp.pad(order, (0, k - order.size))
    return Selection(jnp.where(jnp.arange(k) < count, order, -1), count)
