"""Training: one program, real rows only, the same in both forms of the loop."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax.engine.devices import all_devices, replicate, split_batches
from saal_jax.models import Model, Outputs, Weights
from saal_jax.models.layers import BatchNorm
from saal_jax.optimizers import OPTIMIZERS, adam, adaptive_sam, sam, sgd
from saal_jax.pool import Pool
from saal_jax.preprocessing import crop_and_flip, unchanged
from saal_jax.recipes.supervised import supervised
from saal_jax.tasks.classification import classification
from saal_jax.training import (
    Batch,
    Ingredients,
    Training,
    gather,
    make_epoch,
    make_mixed_batches,
    make_step,
    supervised_loss,
)
from tests import toys
from tests.toys import NETWORK

IMAGES, LABELS, IDS = toys.POOL.images[:20], jnp.asarray(toys.LABELS[:20]), toys.IDS[:20]
RATES = {"learning": np.float32(1)}


def _normalized_linear():
    """Batch normalisation and a linear layer: the least that has running statistics."""
    layer = BatchNorm()

    def apply(weights, images, **options):
        variables = {"params": weights.params["norm"], "batch_stats": weights.batch_stats}
        hidden = layer.apply(variables, images.reshape(len(images), -1), **options)
        hidden, updated = hidden if "mutable" in options else (hidden, None)
        return Outputs(hidden @ weights.params["kernel"], hidden, (hidden,)), updated

    def init(key, images):
        variables = layer.init(key, images.reshape(len(images), -1), train=False)
        kernel = jax.random.normal(key, (images[0].size, 3)) / 8
        return Weights({"norm": variables["params"], "kernel": kernel}, variables["batch_stats"])

    def outputs_train(weights, images, mask, key):
        outputs, updated = apply(weights, images, train=True, mask=mask, mutable=["batch_stats"])
        return outputs, updated["batch_stats"]

    return Model(init, lambda weights, images: apply(weights, images, train=False)[0], outputs_train)


NORMALIZED = _normalized_linear()


def ingredients(optimizer, model=None, augment=unchanged, **options):
    task = classification(3, augment)
    return Ingredients(model or NETWORK, optimizer, task, toys.NORMALIZE, toys.SHAPE, **options)


@cache
def recipe(*args, **options):
    return supervised(ingredients(*args, **options))


def run(recipe, labelled, epochs=3, batch_size=4, capacity=20, images=IMAGES, labels=LABELS):
    pool = Pool(images, IDS, IDS.astype(str))
    training = Training(pool, labels, labelled, labelled, 0, 1, epochs, batch_size, capacity)
    return recipe.train(jax.random.key(2), recipe.init(jax.random.key(1)), training)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_and_repeats_to_the_bit(name):
    labelled = IDS < 10
    ours = recipe(OPTIMIZERS[name](learning_rate=0.01))
    state, loss = run(ours, labelled, epochs=20)
    _, first_loss = run(ours, labelled, epochs=1)
    assert loss < first_loss
    chex.assert_trees_all_equal(run(ours, labelled, epochs=20)[0], state)


@pytest.mark.parametrize("optimizer", [adam(), sam(learning_rate=0.05)], ids=["adam", "sam"])
def test_a_compiled_epoch_equals_the_loop_of_steps(optimizer):
    labelled = IDS < 14  # a last batch of two
    loop, compiled = (
        run(recipe(optimizer, NORMALIZED, crop_and_flip, compiled_loop=form), labelled) for form in (0, 1)
    )
    chex.assert_trees_all_close(compiled, loop, rtol=1e-4, atol=1e-5)


def test_shapes_stay_the_same_while_labels_are_added():
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(crop_and_flip, n=1)
    ours = recipe(adam(), augment=counted)
    for count in (3, 7, 20):
        run(ours, IDS < count)


def test_only_labelled_examples_enter_training():
    labelled = IDS % 2 == 0
    ours = recipe(adam(learning_rate=0.01))
    state, loss = run(ours, labelled)
    images, labels = IMAGES.at[1::2].set(255), LABELS.at[1::2].set(0)
    other, other_loss = run(ours, labelled, images=images, labels=labels)
    chex.assert_trees_all_equal(state, other)
    assert loss == other_loss


def test_the_loss_is_the_mean_over_examples():
    ours = recipe(sgd(learning_rate=1e-12, momentum=0.0))
    labelled = IDS < 7
    state = ours.init(jax.random.key(1))
    logits = ours.apply(state.weights, IMAGES[:7])
    expected = -jax.nn.log_softmax(logits)[np.arange(7), LABELS[:7]].mean()
    np.testing.assert_allclose(run(ours, labelled)[1], expected, rtol=1e-5)


@pytest.mark.parametrize("perturbed", [sam, adaptive_sam])
def test_sam_of_radius_zero_is_sgd(perturbed):
    labelled = IDS < 10
    plain, _ = run(recipe(sgd(learning_rate=0.05)), labelled)
    perturbed_by, _ = run(recipe(perturbed(learning_rate=0.05, rho=0.0)), labelled)
    chex.assert_trees_all_close(plain.weights, perturbed_by.weights, rtol=1e-5, atol=1e-6)
    moved, _ = run(recipe(perturbed(learning_rate=0.05, rho=0.5)), labelled)
    assert jnp.abs(moved.weights.params["Conv_0"]["kernel"] - plain.weights.params["Conv_0"]["kernel"]).max() > 1e-4


def test_both_passes_of_sam_update_the_running_statistics():
    def mean_after(optimizer):
        step = jax.jit(make_step(supervised_loss(NORMALIZED, classification(3)), ingredients(optimizer, NORMALIZED)))
        state = recipe(optimizer, NORMALIZED).init(jax.random.key(0))
        state, _ = step(state, Batch(IMAGES[:4], LABELS[:4], jnp.ones(4)), jax.random.key(0), RATES)
        return state.weights.batch_stats["mean"]

    np.testing.assert_allclose(mean_after(sam(rho=0.0)), 1.9 * mean_after(sgd()), rtol=1e-5)  # 0.9 * 0.1 m + 0.1 m


@pytest.mark.parametrize("optimizer", [adam(), sam()], ids=["adam", "sam"])
def test_no_convolution_inside_a_loop_on_cpu(optimizer, monkeypatch):
    monkeypatch.setattr("saal_jax.training.COMPILER_OPTIONS", None)  # only an outermost program may have them

    def inside_loops(jaxpr, in_loop=False):
        for equation in jaxpr.eqns:
            in_inner = in_loop or equation.primitive.name in ("while", "scan")
            if in_loop:
                yield equation.primitive.name
            for value in equation.params.values():
                for inner in value if isinstance(value, (tuple, list)) else (value,):
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from inside_loops(inner, in_inner)

    state = recipe(optimizer).init(jax.random.key(0))
    batches, key = np.zeros((5, 4), np.int32), jax.random.key(0)
    for compiled_loop, expected in ((False, False), (True, True)):
        ours = ingredients(optimizer, compiled_loop=compiled_loop)
        epoch = make_epoch(make_step(supervised_loss(ours.model, ours.task), ours), ours)
        jaxpr = jax.make_jaxpr(lambda *a: epoch(*a, 2, key, RATES))(state, IMAGES, LABELS, batches)  # noqa: B023
        assert ("conv_general_dilated" in set(inside_loops(jaxpr.jaxpr))) == expected


def assert_devices_train_as_one(model, compiled_loop):
    """Fourteen examples in batches of ten: neither the rows of a batch nor the real ones are a multiple of eight."""
    assert jax.device_count() == 8
    options = dict(compiled_loop=compiled_loop)
    one, eight = (
        run(recipe(sam(learning_rate=3e-4), model, crop_and_flip, mesh=mesh, **options), IDS < 14, 2, batch_size=10)
        for mesh in (None, all_devices())
    )
    chex.assert_trees_all_close(eight[0].weights, one[0].weights, rtol=0, atol=1e-5)
    assert eight[1] == pytest.approx(one[1], rel=1e-5)
    assert {leaf.sharding.num_devices for leaf in jax.tree.leaves(eight[0])} == {1}
    start = recipe(sam(), model).init(jax.random.key(1))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), start.weights, one[0].weights)
    assert min(map(max, map(jax.tree.leaves, moved))) > 1e-4  # parameters and statistics


def assert_devices_read_what_they_gather(path):
    """From the disk as from memory, up to how XLA orders the sums of eight devices."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, IMAGES.shape)
    images[:] = IMAGES
    ours = recipe(sam(learning_rate=3e-4), NORMALIZED, crop_and_flip, mesh=all_devices(), compiled_loop=False)
    from_disk, in_memory = (run(ours, IDS < 14, 2, batch_size=10, images=pool) for pool in (images, IMAGES))
    chex.assert_trees_all_close(from_disk, in_memory, rtol=0, atol=1e-6)


def assert_devices_exchange_sums_only():
    mesh = all_devices()
    ours = ingredients(sam(), NORMALIZED, crop_and_flip, mesh=mesh)
    step = make_step(supervised_loss(NORMALIZED, ours.task), ours)

    def gathering_step(state, images, labels, indices, *rest):
        return step(state, gather(images, labels, indices, mesh), *rest)

    state, images, labels = replicate((recipe(sam(), NORMALIZED).init(jax.random.key(0)), IMAGES, LABELS), mesh)
    batch = split_batches(np.arange(20)[None], mesh)[0]
    compiled = jax.jit(gathering_step).lower(state, images, labels, batch, jax.random.key(0), RATES).compile().as_text()
    assert " all-reduce(" in compiled
    assert " all-gather(" not in compiled and " all-to-all(" not in compiled


def on_eight_devices(expression):
    program = f"from saal_jax.models import resnet18; from tests import test_training as t; t.{expression}"
    devices = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment = {**os.environ, **devices}
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], env=environment, check=True)


@pytest.mark.slow
def test_eight_devices_train_as_one():
    """Gradients, and the statistics of batch normalisation, are those of the whole batch, which is never gathered."""
    on_eight_devices("assert_devices_train_as_one(t.NORMALIZED, True); t.assert_devices_exchange_sums_only()")


@pytest.mark.slow
def test_eight_devices_read_from_the_disk(tmp_path):
    on_eight_devices(f"assert_devices_read_what_they_gather({str(tmp_path / 'images.npy')!r})")


@pytest.mark.slow
def test_eight_devices_train_a_resnet_as_one():
    on_eight_devices("assert_devices_train_as_one(resnet18(3, width=1), False)")


def test_the_decay_of_adamw_is_none_of_the_gradients_business():
    """Adam's first step is the rate times the sign of the gradient; beside it weights shrink by rate times decay."""
    weights, gradients = jnp.array([2.0, -3.0]), jnp.array([0.1, 7.0])
    transformation = OPTIMIZERS["adamw"](learning_rate=0.1, weight_decay=0.5).transformation
    updates, _ = transformation.update(gradients, transformation.init(weights), weights)
    np.testing.assert_allclose(updates, -0.1 * np.sign(gradients) - 0.1 * 0.5 * weights, atol=1e-6)


def test_mixed_batches_are_half_of_either():
    """Of 5 labelled examples and 8 of a source, two and two: the labelled ones over and over, in one order."""
    key, ids, source = jax.random.key(0), np.arange(20, dtype=np.uint32), np.arange(20) >= 12
    batches, steps = make_mixed_batches(key, ids, ids < 5, source, 4, 10)
    own, others = np.asarray(batches)[:, [0, 3]], np.asarray(batches)[:, 1:3]  # the first and the last are a pair
    assert steps == 3 and batches.shape == (5, 4)  # 10 in the end, two a batch
    assert sorted(own.ravel()[:5].tolist()) == [0, 1, 2, 3, 4] and (own.ravel()[5:] == own.ravel()[:5]).all()
    assert sorted(others[:4].ravel().tolist()) == list(range(12, 20)) and (others[4] == others[0]).all()
    more, steps = make_mixed_batches(key, ids, ids < 9, source, 4, 10)
    assert steps == 5 and more.shape == (5, 4)
    nothing, steps = make_mixed_batches(key, ids, ids < 0, source, 4, 10)
    assert steps == 4 and (nothing[:, [0, 3]] == -1).all() and (nothing[:, 1:3] == others).all()
