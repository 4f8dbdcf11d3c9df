"""ProbCover (Yehuda et al., NeurIPS 2022): balls around the labelled examples cover as many examples as possible.

Cost: 1 forward pass per example, of the labelled ones too; none where the embeddings are the user's own.
Scales: time (N + L)^2 D, whatever k; memory N D, and 64 MiB of distances.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.keys import named
from saal_jax.pool import Acquired, embed
from saal_jax.select.clustering import kmeans, shuffled, unit
from saal_jax.select.distances import over_blocks, squared_to
from saal_jax.select.selectors import selected
from saal_jax.typing import Array

_PURE = 0.95  # of the balls


def probcover(features: Callable) -> Callable:
    """One after the other the image whose ball of radius delta holds the most images that no ball covers yet.

    Features are penultimate ones (or the user's embeddings), scaled to length 1. delta is the largest at which 95 % of
    all balls are pure: every image in one is of the same k-means cluster. There are as many clusters as classes among
    the labelled images, at least 2 (2 where an image has no class): labels that are not bought are not looked at. When
    all is covered, the rest is random. The score is how many uncovered images a ball holds before anything is chosen.
    """

    def acquire(query):
        pool, known = query.pool, query.available | query.labelled
        embeddings = unit(embed(query, features, known))
        classes = 0 if query.classes is None else len(np.unique(query.classes[query.labelled]))
        clusters = kmeans(named(query.key, "clusters"), embeddings, pool.ids, known, max(2, classes))
        rows = shuffled(named(query.key, "order"), pool.ids, known)
        order = np.concatenate([rows, np.flatnonzero(~known)])  # all of the pool, so that no shape depends on the cycle
        embeddings, clusters = embeddings[order], clusters[order]
        delta = purity_radius(np.asarray(other_cluster(embeddings, clusters))[: len(rows)])
        masks = query.available[order], query.labelled[order]
        indices, covered, degrees = cover(embeddings, *masks, delta**2, query.k)
        chosen = order[np.asarray(indices)[: min(query.k, query.available.sum())]]
        scores = np.full(len(order), np.nan, np.float32)
        scores[order] = np.where(masks[0], degrees, np.nan)
        # No two rows of length 1 are farther apart than 2.
        metrics = {"delta": float(min(delta, 2)), "covered": float(np.asarray(covered)[: len(rows)].mean())}
        return Acquired(selected(chosen, query.k), scores, metrics)

    return acquire


def purity_radius(distances: Array) -> float:
    """The largest radius at which 95 % of the open balls are pure, from the `distances[M]` to another cluster.

    A ball is pure just if its radius is no larger than the distance from its centre to the nearest example of another
    cluster: the radius is a percentile of these, and there is no need of a search.

    >>> import numpy as np
    >>> purity_radius(np.arange(1.0, 41.0))  # of 40 balls 2 may be impure: those of 1 and 2
    3.0
    """
    return float(np.sort(distances)[int((1 - _PURE) * len(distances))]) if len(distances) else np.inf


@jax.jit
def other_cluster(embeddings: Array, clusters: Array) -> jax.Array:
    """Distance `[N]` from each row of `embeddings[N, D]` to the nearest one of another cluster; -1 is no cluster."""

    def visit(nearest, rows, valid, squared):
        other = valid[:, None] & (clusters[rows][:, None] != clusters[None])
        return jnp.minimum(nearest, jnp.where(other, squared, jnp.inf).min(0))

    start = jnp.full(len(clusters), jnp.inf, embeddings.dtype)
    return jnp.sqrt(over_blocks(embeddings, clusters >= 0, visit, start))


@functools.partial(jax.jit, static_argnames="k")
def cover(
    embeddings: Array, available: Array, labelled: Array, squared_delta: float, k: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Greedy cover by open balls: `(indices[k], covered[N], degrees[N])`, the degrees before anything is chosen.

    The degree of a row is how many uncovered rows are in its ball. It is counted once, and lowered by the rows that a
    chosen ball covers: each is covered once, so that no graph of neighbours need be kept. Of equal rows the first.
    """
    size = len(available)

    def near(rows, valid, squared):
        return valid[:, None] & (squared < squared_delta)

    def count(mask):
        add = lambda degrees, *block: degrees + near(*block).sum(0, dtype=jnp.int32)  # noqa: E731
        return over_blocks(embeddings, mask, add, jnp.zeros(size, jnp.int32))

    def choose(step, carry):
        indices, remaining, uncovered, degrees = carry
        best = jnp.argmax(jnp.where(remaining, degrees, -1)).astype(jnp.int32)
        ball = squared_to(embeddings, best) < squared_delta
        degrees = degrees - count(uncovered & ball)
        return indices.at[step].set(best), remaining.at[best].set(False), uncovered & ~ball, degrees

    covered = over_blocks(embeddings, labelled, lambda covered, *block: covered | near(*block).any(0), labelled)
    uncovered = (available | labelled) & ~covered
    degrees = count(uncovered)
    start = jnp.zeros(k, jnp.int32), available, uncovered, degrees
    indices, _, uncovered, _ = jax.lax.fori_loop(0, k, choose, start)
    return indices, ~uncovered, degrees
