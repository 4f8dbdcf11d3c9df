"""Methods that cluster the pool: TypiClust and ProbCover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.acquisitions.probcover import cover, other_cluster, purity_radius
from saal_jax.acquisitions.typiclust import most_typical
from saal_jax.select.clustering import kmeans, unit


def blobs(sizes, spread=0.05, seed=0):
    """Points around directions of the plane, and which one each is around."""
    generator = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    angles = 2 * np.pi * clusters / len(sizes) + spread * generator.normal(size=len(clusters))
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), clusters


@pytest.mark.parametrize("count", [3, 60])
def test_kmeans_finds_clusters_and_keeps_to_its_key(count):
    rows, truth = blobs([10] * count, spread=0.001)
    mask, ids = np.arange(len(rows)) % 10 != 0, np.arange(len(rows), dtype=np.uint32)
    found = kmeans(jax.random.key(0), rows, ids, mask, count)
    assert (found[~mask] == -1).all()
    pairs = set(zip(truth[mask].tolist(), found[mask].tolist(), strict=True))
    # k-means++ alone may leave a few of many clusters without a seed
    assert len(pairs) == count if count == 3 else len(pairs) < 1.2 * count
    np.testing.assert_array_equal(kmeans(jax.random.key(0), rows, ids, mask, count), found)
    order = np.random.default_rng(0).permutation(len(rows))
    moved = kmeans(jax.random.key(0), rows[order], ids[order], mask[order], count)
    np.testing.assert_array_equal(moved, found[order])


def test_kmeans_of_fewer_points_than_clusters():
    found = kmeans(jax.random.key(0), np.ones((7, 2), np.float32), np.arange(7), np.arange(7) < 4, 6)
    assert (found[:4] >= 0).all() and (found[4:] == -1).all()


def test_unit_of_what_has_no_direction():
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, np.nan]], np.float16))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)


def test_typiclust_takes_the_middle_of_each_cluster(query_of, rows_as_features):
    rows, clusters = blobs([30, 25, 20, 15])
    acquired = ACQUISITIONS["typiclust"](rows_as_features)(query_of(rows, labelled=[0, 60], k=2))
    chosen = np.asarray(acquired.selection.indices)
    assert set(clusters[chosen]) == {1, 3}  # the clusters without a label
    for row in chosen:
        others = np.delete(np.flatnonzero(clusters == clusters[row]), 0)
        assert acquired.scores[row] > 1 / np.linalg.norm(rows[others] - rows[others].mean(0), axis=1).max()
    assert np.isfinite(acquired.scores).sum() == 2


def test_typiclust_orders_clusters_as_released():
    """By labels, then by size; each in turn; the small ones only where nothing else is left."""
    clusters = np.repeat([0, 1, 2, 3], [8, 9, 7, 3])
    rows = np.random.default_rng(0).normal(size=(27, 3))
    labelled = np.arange(27) == 8  # in cluster 1
    chosen, _ = most_typical(rows, clusters, labelled, 7)
    assert clusters[chosen].tolist() == [0, 2, 1, 0, 2, 1, 0]
    chosen, _ = most_typical(rows, clusters, labelled, 50)
    assert sorted(chosen.tolist()) == np.flatnonzero(~labelled).tolist()
    assert clusters[chosen][-3:].tolist() == [3, 3, 3]


def test_typiclust_chooses_by_brute_force():
    rows = np.random.default_rng(1).normal(size=(60, 3))
    chosen, scores = most_typical(rows, np.zeros(60, int), np.arange(60) < 10, 30)
    left = list(range(10, 60))
    for row, score in zip(chosen, scores, strict=True):
        distances = np.linalg.norm(rows[left][:, None] - rows[left][None], axis=2)
        count = min(20, len(left) // 2)
        values = 1 / (np.sort(distances, axis=1)[:, 1 : count + 1].mean(1) + 1e-5)
        assert row == left[values.argmax()]
        np.testing.assert_allclose(score, values.max(), rtol=1e-5)
        left.remove(row)


def test_nothing_is_impure_where_there_is_one_cluster():
    assert purity_radius(np.asarray(other_cluster(jnp.ones((5, 2)), jnp.zeros(5, int)))) == np.inf


def test_the_purity_radius_is_what_a_search_finds():
    rows = unit(np.random.default_rng(0).normal(size=(60, 3)))
    clusters = (rows[:, 0] > 0) + (rows[:, 1] > 0.5)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)

    def share_pure(delta):
        return np.mean([len(set(clusters[distances[row] < delta])) <= 1 for row in range(60)])

    nearest = np.asarray(other_cluster(jnp.asarray(rows), jnp.asarray(clusters)))
    delta = purity_radius(nearest)
    assert share_pure(delta - 1e-4) >= 0.95 > share_pure(delta + 1e-4)


@pytest.mark.parametrize("delta", [0.05, 0.3, 1.0, np.inf])
def test_cover_by_brute_force(delta):
    generator = np.random.default_rng(0)
    rows = unit(generator.normal(size=(90, 3)))
    labelled, available = np.arange(90) < 5, np.arange(90) >= 15  # ten rows are neither
    near = np.square(rows[:, None] - rows[None]).sum(2) < delta**2
    uncovered = (labelled | available) & ~near[labelled].any(0)
    degrees = near[:, uncovered].sum(1)
    indices, covered, found = cover(rows, available, labelled, delta**2, 20)
    np.testing.assert_array_equal(np.asarray(found)[available], degrees[available])
    left = available.copy()
    for row in np.asarray(indices):
        assert row == np.where(left, near[:, uncovered].sum(1), -1).argmax()
        left[row] = False
        uncovered &= ~near[row]
    np.testing.assert_array_equal(np.asarray(covered)[labelled | available], ~uncovered[labelled | available])


def test_probcover_covers_the_largest_clusters_first(query_of, rows_as_features):
    rows, clusters = blobs([30, 25, 20, 15], spread=0.01)
    labels = np.where(np.arange(90) < 2, np.arange(90), clusters)
    query = query_of(3 * rows, labelled=[0, 60], k=3, labels=clusters)
    acquired = ACQUISITIONS["probcover"](rows_as_features)(query._replace(classes=labels))
    chosen = np.asarray(acquired.selection.indices)
    assert acquired.metrics["delta"] > 0
    assert np.isnan(acquired.scores[[0, 60]]).all()
    assert clusters[chosen[0]] in (1, 3) and acquired.scores[chosen[0]] == np.nanmax(acquired.scores)


def test_probcover_looks_at_no_label_that_is_not_bought(query_of, rows_as_features):
    rows, clusters = blobs([30, 25, 20, 15], spread=0.3)
    acquire = ACQUISITIONS["probcover"](rows_as_features)
    chosen = [
        acquire(query_of(rows, labelled=[0, 60], labels=labels, k=5)).selection.indices.tolist()
        for labels in (clusters, np.where(np.isin(np.arange(90), [0, 60]), clusters, 9))
    ]
    assert chosen[0] == chosen[1]
