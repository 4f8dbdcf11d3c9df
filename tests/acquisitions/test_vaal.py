"""VAAL: its loss by hand, its networks at any size, and that it finds what the labelled images lack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax.acquisitions.vaal import cycled, negative_elbo, vaal
from saal_jax.engine.sweep import score_available
from saal_jax.models.variational import _Down, _Up, variational_autoencoder
from saal_jax.pool import Pool, Query

SIZE, TRACES = 120, []


def normalize(images):
    TRACES.append(images.shape)
    return images.astype(jnp.float32) / 128 - 1


ACQUIRE = vaal(normalize, latent=4, width=4, steps=60, batch_size=16)


def toy():
    """Dark images, then as many bright ones, all noisy."""
    noise = np.random.default_rng(0).integers(0, 20, (SIZE, 8, 8, 1))
    return (noise + 150 * (np.arange(SIZE) >= SIZE // 2)[:, None, None, None]).astype(np.uint8)


def choose(images, labelled, *, ids=None, seed=0, k=10):
    ids = np.arange(SIZE, dtype=np.uint32) if ids is None else ids
    pool = Pool(jnp.asarray(images), ids, ids.astype(str))

    def sweep(score_fn, weights, arrays, mask, **options):
        return score_available(score_fn, weights, arrays, mask, pool.names, **options)

    return ACQUIRE(Query(jax.random.key(seed), pool, labelled, ~labelled, k, None, sweep))


def test_loss_by_hand():
    images, found = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1), jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
    mean, log_variance = jnp.array([[1.0, 0.0]]), jnp.log(jnp.array([[1.0, 2.0]]))
    error, divergence = (1 + 4) / 2, 1 / 2 + (2 - 1 - np.log(2)) / 2
    loss = negative_elbo(images, found, mean, log_variance, 3.0)
    np.testing.assert_allclose(loss, [error + 3 * divergence], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "features"),
    [
        ((8, 8, 1), 2 * 2 * 16),
        ((28, 28, 1), 4 * 4 * 32),
        ((32, 32, 3), 2 * 2 * 64),
        ((64, 64, 3), 4 * 4 * 64),
        ((9, 13, 2), 3 * 4 * 16),
    ],
)
def test_images_of_any_size(shape, features):
    networks, images, key = variational_autoencoder(latent=5, width=8), jnp.zeros((2, *shape)), jax.random.key(0)
    params = jax.eval_shape(networks.init, key, images)
    assert params["encoder"]["Dense_0"]["kernel"].shape == (features, 5)
    found = jax.eval_shape(networks.reconstruct, params, images, key)
    assert [array.shape for array in found] == [(2, *shape), (2, 5), (2, 5)]


def test_blocks_are_the_published_convolutions():
    images = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    layout = ("NHWC", "HWIO", "NHWC")

    found, variables = _Down(5).init_with_output(jax.random.key(1), images)
    kernel = variables["params"]["Conv_0"]["kernel"].reshape(2, 2, 2, 2, 3, 5)  # block, place in the block
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 3, 5)
    expected = jax.lax.conv_general_dilated(images, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=layout)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    found, variables = _Up(5).init_with_output(jax.random.key(1), images)
    kernel = variables["params"]["Conv_0"]["kernel"].reshape(2, 2, 3, 2, 2, 5)[:, :, :, ::-1, ::-1]
    kernel = kernel.transpose(0, 3, 1, 4, 2, 5).reshape(4, 4, 3, 5)
    transposed = {"window_strides": (1, 1), "padding": [(2, 2)] * 2, "lhs_dilation": (2, 2)}
    expected = jax.lax.conv_general_dilated(images, kernel, **transposed, dimension_numbers=layout)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_code_is_that_of_its_image_alone():
    networks, images = variational_autoencoder(latent=5, width=4), jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    params, encode = jax.jit(networks.init)(jax.random.key(1), images), jax.jit(networks.encode)
    alone = jnp.concatenate([encode(params, images[i : i + 1])[0] for i in range(4)])
    np.testing.assert_allclose(encode(params, images)[0], alone, rtol=1e-4, atol=1e-5)


def test_batches_run_through_a_mask_evenly():
    ids, mask = np.arange(50, dtype=np.uint32), np.arange(50) % 5 == 0
    batches = cycled(jax.random.key(0), ids, mask, 6, 8)
    assert batches.shape == (6, 8)
    counts = np.bincount(batches.ravel(), minlength=50)
    assert set(counts[mask]) == {4, 5} and not counts[~mask].any()  # 48 rows of ten images


@pytest.mark.parametrize("labelled_are_bright", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_picks_what_the_labelled_images_lack(labelled_are_bright):
    bright = np.arange(SIZE) >= SIZE // 2
    wanted = bright != labelled_are_bright
    labelled = ~wanted & (np.arange(SIZE) % 3 == 0)
    shares, above = [], []
    for seed in (1, 2, 3):
        (indices, _), scores, _ = choose(toy(), labelled, seed=seed)
        assert (np.isnan(scores) == labelled).all()
        shares.append(wanted[np.asarray(indices)].mean())
        above.append((scores[wanted][:, None] > scores[~wanted & ~labelled]).mean())
    assert np.mean(shares) > 0.9  # at random: 0.6
    assert np.mean(above) > 0.9  # at random: 0.5


def test_depends_on_the_key_and_not_on_the_order_of_the_pool():
    images, labelled, ids = toy(), np.arange(SIZE) < 20, np.arange(SIZE, dtype=np.uint32)
    selection, scores, _ = choose(images, labelled)
    again, again_scores, _ = choose(images, labelled)
    np.testing.assert_array_equal(again.indices, selection.indices)
    np.testing.assert_array_equal(again_scores, scores)
    order = np.random.default_rng(1).permutation(SIZE)
    moved, moved_scores, _ = choose(images[order], labelled[order], ids=ids[order])
    np.testing.assert_allclose(moved_scores, scores[order], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(order[np.asarray(moved.indices)], selection.indices)
    assert (choose(images, labelled, seed=1)[1] != scores)[~labelled].all()


def test_compiles_once_for_all_queries():
    choose(toy(), np.arange(SIZE) < 20)
    traced = len(TRACES)
    choose(toy(), np.arange(SIZE) % 3 == 0, seed=1)
    assert traced and len(TRACES) == traced


@pytest.mark.parametrize("labelled", [0, 1, SIZE - 1, SIZE])
def test_few_or_no_images_on_either_side(labelled):
    labelled = np.arange(SIZE) < labelled
    (indices, count), scores, _ = choose(toy(), labelled, k=3)
    assert count == min(3, (~labelled).sum())
    chosen = np.asarray(indices)[:count]
    assert len(set(chosen.tolist())) == count and not labelled[chosen].any()
    assert scores.shape == (SIZE,)


def test_images_that_are_all_equal():
    labelled = np.arange(SIZE) < 20
    (indices, count), scores, _ = choose(np.full((SIZE, 8, 8, 1), 7, np.uint8), labelled)
    assert count == 10 and np.isfinite(scores[~labelled]).all() and not labelled[np.asarray(indices)].any()
