"""The detector and the segmenter: shapes, geometry, and their scores against a plain loop."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from saal_jax import max_perturbed_loss
from saal_jax.engine.factors import value_and_factors
from saal_jax.models import MODELS, center_net, unet
from saal_jax.models.layers import doubled

SHAPE = (16, 12, 3)


def weights_of(model, shape=SHAPE, dtype=jnp.float32):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape))))


@pytest.mark.parametrize(("height", "width"), [(16, 12), (15, 13), (9, 30), (1, 1)])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_cells_of_a_quarter_of_the_image_and_logits_of_each_pixel(height, width, depth):
    images = jnp.zeros((2, height, width, 3))
    cells = -(-height // 4), -(-width // 4)

    def shapes(model):
        outputs = jax.eval_shape(lambda: model.outputs(model.init(jax.random.key(0), images), images))
        assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("float32")}
        return jax.tree.map(lambda leaf: leaf.shape, (outputs.logits, outputs.features))

    assert shapes(center_net(5, width=4, depth=depth)) == (((2, *cells, 5), (2, *cells, 4)), (2, 8))
    for stride in (1, 2):
        found = shapes(unet(5, width=4, depth=depth, stride=stride))
        assert found == ((2, height, width, 5), (2, 4 * depth))


def test_an_untrained_detector_sees_little_anywhere_and_its_boxes_have_an_area():
    model = center_net(3, width=4)
    images = jax.random.normal(jax.random.key(1), (4, *SHAPE))
    heat, boxes = jax.jit(model.apply)(weights_of(model), images)
    assert 0.05 < jax.nn.sigmoid(heat).mean() < 0.2
    assert (boxes[..., 2:] > 0).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (1, 3)])
def test_doubled_is_the_nearest_pixel_of_twice_the_size(size):
    half = tuple(-(-side // 2) for side in size)
    images = jax.random.normal(jax.random.key(0), (2, *half, 3))
    twice = jax.image.resize(images, (2, 2 * half[0], 2 * half[1], 3), "nearest")
    np.testing.assert_array_equal(doubled(images, jnp.zeros((2, *size, 5))), twice[:, : size[0], : size[1]])


def test_images_that_do_not_divide_by_four_are_enlarged_and_others_left_as_they_are():
    model = center_net(2, width=4)
    weights, apply = weights_of(model), jax.jit(model.apply)
    odd = jax.random.normal(jax.random.key(1), (2, 15, 10, 3))
    even = jax.image.resize(odd, (2, 16, 12, 3), "bilinear")
    chex.assert_trees_all_close(apply(weights, odd), apply(weights, even), rtol=1e-5, atol=1e-6)


def test_a_pattern_moves_with_the_image():
    """Away from the edges, cells and pixels say the same of a pattern that is repeated every two cells."""
    images = jnp.tile(jax.random.normal(jax.random.key(1), (1, 8, 8, 3)), (1, 8, 9, 1))

    def outputs(model):
        return jax.jit(model.apply)(weights_of(model, images.shape[1:]), images)

    for cells in outputs(center_net(2, width=4, depth=2)):
        np.testing.assert_allclose(cells[:, 6:8, 6:8], cells[:, 8:10, 8:10], rtol=1e-4, atol=1e-4)
        assert np.ptp(cells[:, 6:8, 6:8], axis=(1, 2)).min() > 1e-3
    logits = outputs(unet(2, width=4, depth=2))
    np.testing.assert_allclose(logits[:, 24:32, 24:32], logits[:, 32:40, 32:40], rtol=1e-4, atol=1e-4)


# Stand-ins with all that a task has: of a detector, one number; of a segmenter, one for each pixel.
def cells_loss(cells, label):
    heat = optax.sigmoid_binary_cross_entropy(cells.heat, label["there"]).sum()
    return heat / 10 + jnp.abs(cells.boxes - label["boxes"]).mean()


def cells_label(cells):
    return {"there": (cells.heat > -2).astype(cells.heat.dtype), "boxes": jnp.round(cells.boxes, 1)}


def most_likely_of_each(logits):
    return logits.argmax(-1)


SCORED = {
    "center_net": (center_net(2, width=4), cells_loss, cells_label),
    "unet": (unet(3, width=4, depth=2), optax.softmax_cross_entropy_with_integer_labels, most_likely_of_each),
}


def slow(apply_fn, loss_fn, pseudo_label_fn, params, image, rho):
    """The losses of one image after the step, written down as it is defined."""

    def outputs(params):
        return jax.tree.map(lambda leaf: leaf[0], apply_fn(params, image[None]))

    label = pseudo_label_fn(outputs(params))
    flat, unravel = ravel_pytree(params)
    gradient = jax.grad(lambda flat: loss_fn(outputs(unravel(flat)), label).mean())(flat)
    moved = flat + rho * flat**2 * gradient / (jnp.linalg.norm(jnp.abs(flat) * gradient) + 1e-12)
    return loss_fn(outputs(unravel(moved)), label)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["center_net", pytest.param("unet", marks=pytest.mark.slow)])
def test_scores_equal_a_plain_loop(name, dtype):
    model, loss_fn, pseudo_label_fn = SCORED[name]
    with jax.enable_x64(dtype == "float64"):
        weights = weights_of(model, dtype=dtype)
        images = jax.random.normal(jax.random.key(1), (3, *SHAPE), dtype)

        def apply_fn(params, images):
            return model.apply(weights._replace(params=params), images)

        options = {"rho": 0.1, "loss_fn": loss_fn, "pseudo_label_fn": pseudo_label_fn}
        scores = max_perturbed_loss(apply_fn, weights.params, images, **options)
        of_one = jax.jit(functools.partial(slow, apply_fn, loss_fn, pseudo_label_fn, weights.params, rho=0.1))
        expected = np.stack([of_one(image) for image in images])
    assert scores.shape == expected.shape and scores.dtype == dtype
    np.testing.assert_allclose(scores, expected, rtol=1e-9 if dtype == "float64" else 1e-5)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize(("name", "heads"), [("center_net", 2), ("unet", 1)])
def test_every_kernel_is_factored(name, heads, dtype):
    model = MODELS[name](3, dtype)
    weights = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))

    def fun(params, image):
        outputs = model.outputs(weights._replace(params=params), image[None])
        return sum(leaf.sum() for leaf in jax.tree.leaves(outputs.logits)), ()

    factors_fn, _ = value_and_factors(fun, weights.params, jnp.zeros(SHAPE))
    _, (entering, _, others) = jax.eval_shape(factors_fn, weights.params, jnp.zeros(SHAPE))
    kernels = [leaf.size for leaf in jax.tree.leaves(weights.params) if leaf.ndim > 1]
    assert len(entering) == len(kernels)
    dtypes = sorted(leaf.dtype.name for leaf in entering.values())
    assert dtypes == (["bfloat16"] * (len(kernels) - heads) if dtype else []) + ["float32"] * (
        heads if dtype else len(kernels)
    )
    total = sum(kernels) + sum(leaf.size for leaf in others)
    assert total == sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    assert sum(kernels) > 0.985 * total


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORED)
def test_they_learn_in_bfloat16_as_in_float32(name):
    """A few steps on four images: the loss falls, by as much."""
    images = jax.random.normal(jax.random.key(1), (4, *SHAPE))
    losses = {}
    for dtype in (None, "bfloat16"):
        _, loss_fn, pseudo_label_fn = SCORED[name]
        model = MODELS[name](3, dtype, width=4, depth=2)
        weights = weights_of(model)
        labels = jax.vmap(pseudo_label_fn)(jax.jit(model.apply)(weights, images[::-1]))
        optimizer = optax.adam(3e-2)

        @jax.jit
        def step(params, state, model=model, weights=weights, labels=labels):
            def mean(params):
                outputs = model.apply(weights._replace(params=params), images)
                return jax.vmap(loss_fn)(outputs, labels).mean()  # noqa: B023

            value, gradients = jax.value_and_grad(mean)(params)
            updates, state = optimizer.update(gradients, state)  # noqa: B023
            return optax.apply_updates(params, updates), state, value

        params, state, values = weights.params, optimizer.init(weights.params), []
        for _ in range(15):
            params, state, value = step(params, state)
            values.append(float(value))
        assert values[-1] < 0.9 * values[0]
        losses[dtype] = values[-1]
    np.testing.assert_allclose(losses["bfloat16"], losses[None], rtol=0.2)
