"""First labels and subsets of the pool."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saal_jax import InputError
from saal_jax.pool import stable_ids, subset
from saal_jax.select.first_labels import class_balanced


def test_ids_follow_their_examples():
    names = np.array(["train_00001", "cat/1.png", "digits_7"])
    np.testing.assert_array_equal(stable_ids(names)[::-1], stable_ids(names[::-1]))
    assert len(set(stable_ids([f"train_{i:05}" for i in range(1000)]))) == 1000


@given(
    labels=st.lists(st.integers(0, 3), min_size=15, max_size=15), k=st.sampled_from([1, 6, 15]), seed=st.integers(0, 9)
)
def test_class_balanced_as_far_as_the_classes_go(labels, k, seed):
    labels, ids = np.array([0, 1, 2, 3, *labels]), np.arange(19, dtype=np.uint32)
    chosen = np.asarray(class_balanced(jax.random.key(seed), labels, ids, 4, k).indices)
    assert len(set(chosen.tolist())) == k
    counts, sizes = np.bincount(labels[chosen], minlength=4), np.bincount(labels)
    fullest = counts.max()
    assert all(count >= fullest - 1 or count == size for count, size in zip(counts, sizes, strict=True))
    order = np.random.default_rng(seed).permutation(19)
    moved = np.asarray(class_balanced(jax.random.key(seed), labels[order], ids[order], 4, k).indices)
    assert set(ids[order][moved]) == set(ids[chosen])


def test_a_class_without_examples_is_named():
    with pytest.raises(InputError, match="class 2 has no example"):
        class_balanced(jax.random.key(0), np.array([0, 1, 0, 1]), np.arange(4), 3, 3)


def test_more_first_labels_than_images():
    with pytest.raises(InputError, match="initial_labels is 5, but there are only 4 images"):
        class_balanced(jax.random.key(0), np.array([0, 1, 0, 1]), np.arange(4), 2, 5)


def test_subset_has_the_size_asked_for_and_stays_within_what_is_available():
    available = np.arange(50) % 2 == 0
    ids = np.arange(50, dtype=np.uint32)
    chosen = subset(jax.random.key(0), ids, available, 10)
    assert chosen.sum() == 10 and not (chosen & ~available).any()
    assert (subset(jax.random.key(1), ids, available, 10) != chosen).any()
    np.testing.assert_array_equal(subset(jax.random.key(0), ids, available, None), available)
    np.testing.assert_array_equal(subset(jax.random.key(0), ids, available, 100), available)
