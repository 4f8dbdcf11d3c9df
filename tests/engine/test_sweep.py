"""The sweep over the pool: chunks must not show."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import InputError, max_perturbed_loss, score_pool
from saal_jax.engine import sweep
from saal_jax.engine.sweep import default_chunk_size, score_available
from saal_jax.models import Weights, small_cnn
from tests.toys import convolved, convolved_params


def sharpest(params, images):
    return max_perturbed_loss(convolved, params, images)


@pytest.mark.parametrize("chunk_size", [1, 5, 100])
def test_chunk_size_does_not_matter(chunk_size):
    params, images = convolved_params(), jax.random.normal(jax.random.key(1), (7, 8, 8, 1))
    scores = score_pool(sharpest, params, np.asarray(images), chunk_size=chunk_size)
    assert scores.shape == (7,) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, sharpest(params, images), rtol=1e-5, atol=1e-6)


def test_compiles_once_for_all_weights_and_pool_sizes():
    score_fn = chex.assert_max_traces(lambda params, chunk: params * chunk.sum(1), n=1)
    chex.clear_trace_counter()
    for size in (5, 9, 13):
        score_pool(score_fn, float(size), np.ones((size, 2)), chunk_size=4)


def test_a_pytree_pool_keeps_its_rows_together():
    pool = {"x": np.arange(10.0, dtype=np.float32), "y": np.arange(10)}
    scores = score_pool(lambda params, chunk: chunk["x"] * params + chunk["y"], 100.0, pool, chunk_size=3)
    np.testing.assert_array_equal(scores, 101 * np.arange(10))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_random_scores_depend_on_the_example_not_on_the_chunk(impl):
    key = jax.random.key(3, impl=impl)

    def score_fn(params, chunk, keys):
        return jax.vmap(jax.random.uniform)(keys)

    scores = [score_pool(score_fn, (), np.zeros(10), key=key, chunk_size=size) for size in (3, 10)]
    np.testing.assert_array_equal(*scores)
    assert len(set(scores[0].tolist())) == 10


def test_progress_and_an_empty_pool():
    done = []
    score_pool(lambda params, chunk: chunk, (), np.zeros(10), chunk_size=4, progress=done.append)
    assert done == [4, 8, 10]
    assert score_pool(lambda params, chunk: chunk, (), np.zeros((0, 3)), chunk_size=4).shape == (0, 3)


@pytest.mark.parametrize(
    ("pool", "score_fn", "message"),
    [
        ((np.ones(5), np.ones(3)), lambda params, chunk: chunk[0], "same leading axis"),
        ([1.0, 2.0], lambda params, chunk: chunk[0], "same leading axis"),
        (
            np.ones((5, 2)),
            lambda params, chunk: chunk.sum(),
            r"returned \(\) for a chunk of 2: it must return an array \[2, ...\], or a pytree of them",
        ),
        (np.ones((5, 3)), lambda params, chunk: chunk.sum(0), r"returned \(3,\) for a chunk of 2"),
        (np.ones((5, 3)), lambda params, chunk: (chunk.sum(1), chunk.sum()), r"returned \(\(2,\), \(\)\) for"),
        (np.ones((5, 3)), lambda params, chunk: {}, r"returned {} for"),
    ],
)
def test_one_score_per_example_or_an_error(pool, score_fn, message):
    with pytest.raises(InputError, match=message):
        score_pool(score_fn, (), pool, chunk_size=2)


def test_a_pytree_of_scores_whatever_the_chunks_and_from_nothing_too():
    def score_fn(scale, chunk):
        rows, classes = chunk
        return {"sum": scale * rows.sum(1), "rows": (rows, classes == 2)}

    rows, classes = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32), np.arange(7, dtype=np.int32) % 3
    for chunk_size in (1, 3, 7, None):
        scores = score_pool(score_fn, 2.0, (rows, classes), chunk_size=chunk_size)
        np.testing.assert_allclose(scores["sum"], 2 * rows.sum(1), rtol=1e-6)
        np.testing.assert_array_equal(scores["rows"][0], rows)
        np.testing.assert_array_equal(scores["rows"][1], classes == 2)
    nothing = score_pool(score_fn, 2.0, (rows[:0], classes[:0]))
    shapes = {"sum": ((0,), np.float32), "rows": (((0, 3), np.float32), ((0,), np.bool_))}
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.type), nothing) == shapes


def test_only_the_available_of_a_pytree():
    def score_fn(scale, chunk):
        return {"one": scale * chunk.sum(1), "all": chunk}

    names, pool = np.array(["a", "b", "c"]), np.arange(6, dtype=np.float32).reshape(3, 2)
    scores = score_available(score_fn, 2.0, pool, np.array([True, False, True]), names)
    np.testing.assert_array_equal(scores["one"], [2, np.nan, 18])
    np.testing.assert_array_equal(scores["all"], [[0, 1], [np.nan, np.nan], [4, 5]])
    pool[2, 1] = np.nan
    with pytest.raises(InputError, match="1 of 2 scores are not finite, of examples c:"):
        score_available(score_fn, 2.0, pool, np.array([True, False, True]), names)


def test_chunk_size_follows_what_the_score_holds_for_an_example():
    params = {"w": jnp.ones(2**20)}
    shared = lambda params, chunk: (chunk * params["w"].sum()).sum(1)  # noqa: E731
    own = jax.vmap(lambda params, row: (jnp.sin(params["w"] * row[0]) ** 2).sum(), (None, 0))  # 4 MiB each, and more
    pool = np.zeros((3, 8), np.float32)
    assert default_chunk_size(shared, params, pool) == 1024
    assert 16 <= default_chunk_size(own, params, pool) <= 64  # of 256 MiB
    for wrong in (0, 2.5, float("nan"), "3"):
        with pytest.raises(InputError, match=f"chunk_size is {wrong}"):
            score_pool(lambda params, chunk: chunk, (), np.zeros(3), chunk_size=wrong)


def test_wide_integers_of_numpy_are_taken():
    pool = np.ones((4, 2)), np.arange(4, dtype=np.int64)
    np.testing.assert_array_equal(
        score_pool(lambda params, chunk: chunk[0].sum(1) + chunk[1], (), pool), np.arange(2, 6)
    )


def test_what_a_score_does_on_the_side_it_does_once():
    heard = []

    @jax.jit
    def tell(total):
        jax.debug.callback(heard.append, total)

    def network(params, images):
        tell(images.sum())
        return images @ params

    def score_fn(params, images):
        return max_perturbed_loss(network, params, images)

    images = jnp.ones((2, 3))
    scores = score_pool(score_fn, jnp.eye(3), images, chunk_size=2)
    jax.effects_barrier()
    assert len(heard) == 2 * 2  # the two halves of the score, for two images
    assert scores.shape == (2,)


def test_out_of_memory_halves_the_chunk_and_loses_nothing():
    def score_fn(params, chunk):
        if chunk.shape[0] > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")
        return params * chunk

    pool, seen = np.arange(17, dtype=np.float32), []
    with pytest.warns(UserWarning, match="out of memory; going on with chunks of [53] examples") as warned:
        scores = score_pool(score_fn, 2.0, pool, chunk_size=10, progress=seen.append)
    np.testing.assert_array_equal(scores, 2 * pool)
    assert seen == [3, 6, 9, 12, 15, 17]
    assert {warning.filename for warning in warned} == {__file__}

    def hopeless(params, chunk):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")

    with pytest.warns(UserWarning), pytest.raises(jax.errors.JaxRuntimeError):
        score_pool(hopeless, 2.0, pool, chunk_size=2)


def test_a_score_written_plainly_is_swept_without_grouped_convolutions():
    model = small_cnn(10, width=4)
    images = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    weights = jax.jit(model.init)(jax.random.key(0), images)

    def gradient_norm(params, image):
        loss = lambda params: model.apply(weights._replace(params=params), image[None]).max()  # noqa: E731
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(jax.grad(loss)(params)))

    score_fn = jax.vmap(gradient_norm, (None, 0))
    compiled = sweep._score.lower(score_fn, None, weights.params, images).as_text()
    assert "feature_group_count = 5" in jax.jit(score_fn).lower(weights.params, images).as_text()
    assert "feature_group_count = 5" not in compiled
    np.testing.assert_allclose(
        score_pool(score_fn, weights.params, images), jax.jit(score_fn)(weights.params, images), rtol=1e-4
    )


def test_a_pool_on_disk_is_read_by_chunks(tmp_path):
    stored = np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.uint8, (50, 4))
    stored[:] = np.arange(200).reshape(50, 4)
    reads = []

    class Watched:
        shape, dtype = stored.shape, stored.dtype

        def __getitem__(self, rows):
            reads.append(len(rows))
            return stored[rows]

    score_fn = lambda scale, chunk: scale * chunk.astype(jnp.float32).sum(1)  # noqa: E731
    in_memory = score_pool(score_fn, 2.0, np.array(stored), chunk_size=8)
    np.testing.assert_array_equal(score_pool(score_fn, 2.0, Watched(), chunk_size=8), in_memory)
    np.testing.assert_array_equal(score_pool(score_fn, 2.0, stored, chunk_size=8), in_memory)
    assert reads == [8] * 7


ON_EIGHT_DEVICES = """
import jax, numpy as np
from saal_jax import max_perturbed_loss, score_pool
from tests.toys import convolved, convolved_params

params, images = convolved_params(), jax.random.normal(jax.random.key(1), (37, 8, 8, 1))

def score_fn(params, images):
    return max_perturbed_loss(convolved, params, images)

def drawn(params, images, keys):
    return jax.vmap(jax.random.uniform)(keys)

mesh = jax.make_mesh((4, 2), ("a", "b"))
assert mesh.size == 8
one = score_pool(score_fn, params, images)
for chunk_size in (None, 1, 3):
    many = score_pool(score_fn, params, np.asarray(images), chunk_size=chunk_size, mesh=mesh)
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-6)
key = jax.random.key(3)
several = score_pool(lambda params, chunk: {"score": score_fn(params, chunk), "first": chunk[:, 0, 0]}, params,
                     np.asarray(images), chunk_size=2, mesh=mesh)
np.testing.assert_allclose(several["score"], one, rtol=0, atol=1e-6)
np.testing.assert_array_equal(several["first"], np.asarray(images)[:, 0, 0])
draws = score_pool(drawn, params, images, key=key, chunk_size=2, mesh=mesh)
np.testing.assert_array_equal(draws, score_pool(drawn, params, images, key=key))
"""


def test_eight_devices_give_the_scores_of_one():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_EIGHT_DEVICES], check=True, env=environment, cwd=Path(__file__).parents[2])


def test_only_the_available_are_scored_and_a_score_that_is_not_finite_names_its_example():
    names = np.array([f"image_{i}" for i in range(6)])
    available = np.array([True, False, True, True, False, True])
    weights = Weights({"w": jnp.ones(())}, {})
    pool = np.array([0.0, np.inf, 1.0, 2.0, np.nan, 3.0], np.float32)
    scores = score_available(lambda weights, chunk: chunk * weights.params["w"], weights, pool, available, names)
    np.testing.assert_array_equal(scores, [0, np.nan, 1, 2, np.nan, 3])
    with pytest.raises(InputError, match="1 of 4 scores are not finite, of examples image_2:"):
        score_available(lambda weights, chunk: jnp.where(chunk == 1, jnp.nan, chunk), weights, pool, available, names)


def test_a_small_mask_is_not_padded_to_a_chunk_of_the_pool():
    sizes, names = [], np.arange(100).astype(str)

    def score_fn(weights, chunk):
        sizes.append(len(chunk))
        return chunk * weights.params

    pool, few = np.arange(100, dtype=np.float32), np.arange(100) % 10 == 0
    for mask in (few, few & (np.arange(100) > 50)):
        scores = score_available(score_fn, Weights(2.0, {}), pool, mask, names, most=10)
        np.testing.assert_array_equal(scores, np.where(mask, 2 * pool, np.nan))
    assert sizes[-1] == 10  # after the shapes that are only looked at
