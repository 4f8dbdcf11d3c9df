"""K-means on the examples of a pool, without a second random generator."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.keys import named
from saal_jax.select.selectors import kmeans_plusplus, random_k
from saal_jax.typing import Array, Key

_SEEDS = 500
_LARGEST = 50  # clusters, of what is clustered as a whole
_BATCH = 5000


def shuffled(key: Key, ids: Array, mask: Array) -> np.ndarray:
    """Positions of the examples in `mask[N]`, in an order drawn by key and id.

    What is computed on the rows in that order cannot depend on the order of the pool, and its first of several equals
    is a random one.
    """
    order = random_k(key, ids, mask, len(ids))
    return np.asarray(order.indices)[: int(order.count)]


def unit(embeddings: Array) -> np.ndarray:
    """Rows `[N, D]` of length 1 in float32; NaN counts as 0, and a row of zeros stays one.

    >>> print(unit([[3, 4], [0, 0]]))
    [[0.6 0.8]
     [0.  0. ]]
    """
    embeddings = np.nan_to_num(np.asarray(embeddings, np.float32))
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)


def kmeans(key: Key, embeddings: Array, ids: Array, mask: Array, count: int) -> np.ndarray:
    """Clusters `[N]` of `embeddings[N, D]`, 0 to `count` - 1; -1 outside `mask[N]`.

    Lloyd's algorithm, or with more than 50 clusters mini-batch k-means in batches of 5,000 (as TypiClust's program has
    it), from k-means++ seeds: the first is a random one, the others are drawn as ever.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    rows, seed_key = shuffled(named(key, "order"), ids, mask), named(key, "seeding")
    count = min(count, len(rows))
    # Seeds are drawn one after the other: the first of many are those of few, and one program serves all cycles.
    many = min(len(ids), -(-count // _SEEDS) * _SEEDS)
    seeds = kmeans_plusplus(seed_key, embeddings, ids, mask, many, np.ones(len(ids), np.float32)).indices
    options = {"n_clusters": count, "init": embeddings[np.asarray(seeds)[:count]], "n_init": 1}
    if count > _LARGEST:
        state = int(jax.random.bits(named(key, "batches"), dtype=jnp.uint32))
        algorithm = MiniBatchKMeans(batch_size=_BATCH, random_state=state, **options)
    else:
        algorithm = KMeans(**options)
    clusters = np.full(len(ids), -1)
    with warnings.catch_warnings(), threadpool_limits(1):  # threads add up in no fixed order
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
        clusters[rows] = algorithm.fit(embeddings[rows]).labels_
    return clusters
