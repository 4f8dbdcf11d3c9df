"""What many acquisitions have in common: a score of each example for itself, then a selector."""

import jax

from saal_jax.pool import Acquired
from saal_jax.select.selection import top_k


def scored(score_fn, select=top_k):
    """Scores all that is available by `score_fn(weights, images) -> [B]` (`[B, R]` of regions), then selects."""

    def acquire(query):
        scores = query.sweep(score_fn, query.weights, query.pool.images, query.available)
        return Acquired(select(query.key, scores, query.ids, query.available, query.k), scores)

    return acquire


def sampled(score, sample_logits, samples):
    """The largest `score(logits[B, T, C]) -> [B]` of logits that are sampled with a key of each image's own."""

    def score_fn(state, chunk):
        (weights, key), (images, ids) = state, chunk
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, ids)
        return score(sample_logits(weights, images, keys, samples))

    def acquire(query):
        sample_key, select_key = jax.random.split(query.key)
        pool, state = query.pool, (query.weights, sample_key)
        scores = query.sweep(score_fn, state, (pool.images, pool.ids), query.available)
        return Acquired(top_k(select_key, scores, query.ids, query.available, query.k), scores)

    return acquire
