"""What was renamed answers to its old name, with a warning."""

import jax
import numpy as np
import pytest

import saal_jax


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_old_names_still_work():
    key, ids, available = jax.random.key(0), np.arange(4), np.ones(4, bool)
    values = np.array([1.0, 2.0, 4.0, 8.0])
    with pytest.warns(DeprecationWarning, match="saal_jax.random is now saal_jax.random_k"):
        old = saal_jax.random
    assert old is saal_jax.random_k
    with pytest.warns(DeprecationWarning, match="kmeans_plusplus: the argument weights is now called sample_weight"):
        chosen = saal_jax.kmeans_plusplus(key, values, ids, available, 2, weights=values[::-1])
    expected = saal_jax.kmeans_plusplus(key, values, ids, available, 2, values[::-1])
    assert chosen.indices.tolist() == expected.indices.tolist() and expected.indices[0] == 0
    with pytest.warns(DeprecationWarning, match="score_pool: the argument pool is now called arrays"):
        scores = saal_jax.score_pool(lambda scale, chunk: scale * chunk, 2.0, pool=values.astype(np.float32))
    assert scores.tolist() == [2, 4, 8, 16]
    with pytest.raises(TypeError, match="weights and sample_weight are one argument"):
        saal_jax.kmeans_plusplus(key, values, ids, available, 2, sample_weight=values, weights=values)


def test_no_other_name_is_there():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        saal_jax.nothing  # noqa: B018
