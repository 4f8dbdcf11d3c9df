import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax.engine.sweep import score_available
from saal_jax.pool import Pool, Query


@pytest.fixture
def query_of():
    """A query about rows of numbers: they are the images, and `apply` and `features` are functions of rows."""

    def make(rows, *, labelled=(), available=None, k=3, labels=None, key=0, embeddings=None, weights=None):
        size = len(rows)
        is_labelled = np.isin(np.arange(size), labelled)
        classes = np.zeros(size, int) if labels is None else np.asarray(labels)
        names = np.array([f"row {row}" for row in range(size)])
        pool = Pool(jnp.asarray(rows, jnp.float32), np.arange(size, dtype=np.uint32) + 5, names, embeddings)

        def sweep(score_fn, weights, arrays, mask, **options):
            return score_available(score_fn, weights, arrays, mask, names, **options)

        available = ~is_labelled if available is None else available
        return Query(jax.random.key(key), pool, is_labelled, available, k, weights, sweep, classes)

    return make


@pytest.fixture
def rows_as_features():
    return lambda weights, images: images
