"""What many acquisitions have in common: a score of each example for itself, then a selector."""

from collections.abc import Callable

from saal_jax.keys import named, of_each
from saal_jax.pool import Acquired
from saal_jax.select.selectors import top_k
from saal_jax.typing import ScoreFn


def scored(score_fn: ScoreFn, select: Callable = top_k) -> Callable:
    """Scores all that is available by `score_fn(weights, images) -> [B]` (`[B, R]` of regions), then selects."""

    def acquire(query):
        scores = query.sweep(score_fn, query.weights, query.pool.images, query.available)
        return Acquired(select(named(query.key, "selection"), scores, query.ids, query.available, query.k), scores)

    return acquire


def sampled(score: Callable, sample_logits: Callable, samples: int) -> Callable:
    """The largest `score(logits[B, T, C]) -> [B]` of logits that are sampled with a key of each image's own."""

    def score_fn(state, chunk):
        (weights, key), (images, ids) = state, chunk
        return score(sample_logits(weights, images, of_each(key, ids), samples))

    def acquire(query):
        pool, state = query.pool, (query.weights, named(query.key, "dropout"))
        scores = query.sweep(score_fn, state, (pool.images, pool.ids), query.available)
        return Acquired(top_k(named(query.key, "selection"), scores, query.ids, query.available, query.k), scores)

    return acquire
