"""Core-set (Sener and Savarese, ICLR 2018): the labelled examples come near to all others, by greedy k-centre.

Cost: 1 forward pass per example, of the labelled ones too; none where the embeddings are the user's own.
Scales: time N (L + k) D, memory N D.
"""

from collections.abc import Callable

import numpy as np

from saal_jax.keys import named
from saal_jax.pool import Acquired, embed
from saal_jax.select.selectors import k_center


def core_set(features: Callable) -> Callable:
    """One after the other the image whose penultimate features (or embedding) are farthest from all labelled ones.

    It has no scores: how far an image is depends on what was chosen before it.
    """

    def acquire(query):
        pool, available, labelled = query.pool, query.available, query.labelled
        embeddings = embed(query, features, available | labelled)
        chosen = k_center(named(query.key, "selection"), embeddings, pool.ids, available, labelled, query.k)
        return Acquired(chosen, np.full(len(pool.ids), np.nan, np.float32))

    return acquire
