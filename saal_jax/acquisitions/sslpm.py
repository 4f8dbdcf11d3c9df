"""SSLPM (Hwang, Choi and Choi, IEEE Access 2024): of each cluster of large predicted losses, the largest.

Cost: 1 forward pass per example, and 1 for each of the `candidates`.
Scales: time N log N + M^2 D of M candidates; memory 8 M^2 bytes of distances: 5 GB for 25,000, 200 MB for 5,000.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from annotated_types import Ge

from saal_jax.keys import named
from saal_jax.pool import Acquired, embed
from saal_jax.select.selectors import selected, top_k
from saal_jax.typing import Array


def sslpm(predicted_loss: Callable, features: Callable, *, candidates: Annotated[int, Ge(1)] = 25_000) -> Callable:
    """The largest predicted loss in each of k clusters of the images of the largest predicted losses.

    The penultimate features (or the user's embeddings) of the top `candidates` are clustered by complete linkage. Needs
    8 bytes of memory for each pair of candidates.
    """

    def acquire(query):
        pool, k = query.pool, query.k
        losses = query.sweep(predicted_loss, query.weights, pool.images, query.available)
        top = top_k(
            named(query.key, "selection"), losses, pool.ids, query.available, min(len(pool.ids), max(k, candidates))
        )
        rows = np.asarray(top.indices)[: int(top.count)]
        mask = np.zeros(len(pool.ids), bool)
        mask[rows] = True
        chosen = rows[first_of_each(embed(query, features, mask)[rows], k)]
        return Acquired(selected(chosen, k), losses)

    return acquire


def first_of_each(embeddings: Array, k: int) -> np.ndarray:
    """Positions of the first row of each of `min(k, M)` complete-linkage clusters of `embeddings[M, D]`, ascending.

    >>> import numpy as np
    >>> first_of_each(np.array([[0.0], [9.0], [0.1], [8.0]]), 2)
    array([0, 1])
    """
    from sklearn.cluster import AgglomerativeClustering

    if len(embeddings) <= k:
        return np.arange(len(embeddings))
    clusters = AgglomerativeClustering(k, linkage="complete").fit_predict(np.nan_to_num(embeddings))
    return np.sort(np.unique(clusters, return_index=True)[1])
