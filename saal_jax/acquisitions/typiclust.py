"""TypiClust (Hacohen, Dekel and Weinshall, ICML 2022): from each cluster without labels, its most typical example.

Cost: 1 forward pass per example, of the labelled ones too; none where the embeddings are the user's own.
Scales: time 500 N D for clusters, N^2 D / (L + k) for neighbours; memory N D.
"""

from collections.abc import Callable

import numpy as np

from saal_jax.keys import named
from saal_jax.pool import Acquired, embed
from saal_jax.select.clustering import kmeans, shuffled, unit
from saal_jax.select.selectors import selected
from saal_jax.typing import Array

_CLUSTERS = 500  # at most
_TOO_SMALL = 5  # examples
_NEIGHBOURS = 20


def typiclust(features: Callable) -> Callable:
    """The most typical image of each of L + k clusters of the features, those with the fewest labels first.

    Features are penultimate ones (or the user's embeddings), scaled to length 1. As released: at most 500 clusters, and
    those of 5 images or fewer come last (there: never). Between clusters with equally many labels the larger goes
    first; all are gone round until k are chosen. The scores are the typicalities of the images chosen; NaN elsewhere.
    """

    def acquire(query):
        pool, known = query.pool, query.available | query.labelled
        embeddings = unit(embed(query, features, known))
        count = min(int(query.labelled.sum()) + query.k, _CLUSTERS)
        clusters = kmeans(named(query.key, "clusters"), embeddings, pool.ids, known, count)
        rows = shuffled(named(query.key, "order"), pool.ids, known)
        chosen, typicalities = most_typical(embeddings[rows], clusters[rows], query.labelled[rows], query.k)
        scores = np.full(len(pool.ids), np.nan, np.float32)
        scores[rows[chosen]] = typicalities
        return Acquired(selected(rows[chosen], query.k), scores)

    return acquire


def most_typical(embeddings: Array, clusters: Array, labelled: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `min(k, number not labelled)` rows of `embeddings[M, D]` and their typicalities, in that order."""
    sizes, label_counts = np.bincount(clusters), np.bincount(clusters, labelled)
    order = np.lexsort((-sizes, label_counts))
    left: np.ndarray = np.where(labelled, -1, clusters)
    chosen: list[int] = []
    typicalities: list[float] = []
    for group in (order[sizes[order] > _TOO_SMALL], order[sizes[order] <= _TOO_SMALL]):
        while np.isin(left, group).any() and len(chosen) < k:
            for cluster in group:
                members = np.flatnonzero(left == cluster)
                if len(members) and len(chosen) < k:
                    values = typicality(embeddings[members])
                    best = values.argmax()
                    chosen.append(members[best])
                    typicalities.append(values[best])
                    left[members[best]] = -1
    return np.array(chosen, int), np.array(typicalities)


def typicality(embeddings: Array) -> np.ndarray:
    """1 / (mean distance to the nearest 20, or half of all if that is less) `[M]` of `embeddings[M, D]`.

    The paper's; the released program squares the distances first.

    >>> import numpy as np
    >>> typicality(np.array([[0.0], [1.0], [3.0], [7.0]])).round(2)  # the two nearest: 1 and 3; 1 and 2; 2 and 3; ...
    array([0.5 , 0.67, 0.4 , 0.2 ])
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(_NEIGHBOURS, len(embeddings) // 2)
    if count == 0:
        return np.zeros(len(embeddings))
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(embeddings).kneighbors()
    return 1 / (distances.mean(1) + 1e-5)
