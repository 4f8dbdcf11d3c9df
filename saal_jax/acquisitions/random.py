"""The baseline that every method has to beat."""

import numpy as np

from saal_jax import selection


def random():
    """Uniformly at random, without replacement."""

    def acquire(key, pool, available, k, weights, sweep):
        del weights, sweep
        return selection.random(key, pool.ids, available, k), np.full(len(pool.ids), np.nan, np.float32)

    return acquire
