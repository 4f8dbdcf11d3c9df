"""Random: uniformly, without replacement; the baseline that every method has to beat.

Cost: 0 forward passes per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable

import numpy as np

from saal_jax.keys import named
from saal_jax.pool import Acquired
from saal_jax.select import selectors


def random() -> Callable:
    """Uniformly at random, without replacement."""

    def acquire(query):
        chosen = selectors.random_k(named(query.key, "selection"), query.ids, query.available, query.k)
        return Acquired(chosen, np.full(len(query.ids), np.nan, np.float32))

    return acquire
