"""Scores of models that do not classify: a dense detector and a segmenter, against a plain loop in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saal_jax import InputError, gradient_norm, max_perturbed_loss, score_pool, sharpness, upper_bound_terms

SIDE, CLASSES, BOXES = 4, 3, 2


def convolved(kernel, images):
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def detector(params, images):
    """Heat maps of classes and the sizes of boxes, for each place."""
    hidden = jax.nn.relu(convolved(params["trunk"], images))
    return {"heat": convolved(params["heat"], hidden), "sizes": convolved(params["sizes"], hidden)}


def detection_loss(outputs, label):
    """Of the boxes whose class is not -1: cross-entropy of all places, and the error of the sizes there."""
    there = label["classes"] >= 0
    rows, columns = label["places"].T
    heat = jnp.zeros((SIDE, SIDE, CLASSES)).at[rows, columns, label["classes"]].max(there.astype(float))
    sizes = jnp.abs(outputs["sizes"][rows, columns] - label["sizes"]).sum(-1)
    found = optax.sigmoid_binary_cross_entropy(outputs["heat"], heat).sum() + jnp.where(there, sizes, 0).sum()
    return found / jnp.maximum(1, there.sum())


def decoded(outputs):
    """The most likely places as boxes."""
    best, places = jax.lax.top_k(outputs["heat"].max(-1).ravel(), BOXES)
    rows, columns = places // SIDE, places % SIDE
    classes = jnp.where(best > 0, outputs["heat"][rows, columns].argmax(-1), -1)
    return {"places": jnp.stack([rows, columns], -1), "classes": classes, "sizes": outputs["sizes"][rows, columns]}


def segmenter(params, images):
    return convolved(params["heat"], jax.nn.relu(convolved(params["trunk"], images)))


pixel_loss = optax.softmax_cross_entropy_with_integer_labels


def most_likely_of_each(outputs):
    return outputs.argmax(-1)


TASKS = {
    "detector": (detector, detection_loss, decoded),
    "segmenter": (segmenter, pixel_loss, most_likely_of_each),
}


def setting():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"trunk": (3, 3, 2, 5), "heat": (3, 3, 5, CLASSES), "sizes": (1, 1, 5, 2)}
    params = {name: jax.random.normal(key, shapes[name]) / 3 for key, name in zip(keys, shapes, strict=False)}
    return params, jax.random.normal(keys[3], (5, SIDE, SIDE, 2))


def slow(apply_fn, loss_fn, params, image, label, rho):
    """Clean losses, losses after the step, and the gradient of the mean, without vmap or rewriting."""

    def losses(params):
        return loss_fn(jax.tree.map(lambda leaf: leaf[0], apply_fn(params, image[None])), label)

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    gradient = jax.grad(lambda flat: losses(unravel(flat)).mean())(flat)
    moved = flat + rho * flat**2 * gradient / (jnp.linalg.norm(jnp.abs(flat) * gradient) + 1e-12)
    return losses(params), losses(unravel(moved)), gradient


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("detector", False),
        ("segmenter", True),
        pytest.param("detector", True, marks=pytest.mark.slow),
        pytest.param("segmenter", False, marks=pytest.mark.slow),
    ],
)
def test_equals_a_plain_loop_in_float64(task, given):
    apply_fn, loss_fn, pseudo_label_fn = TASKS[task]
    with jax.enable_x64(True):
        params, images = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), setting())
        labels = jax.vmap(pseudo_label_fn)(apply_fn(params, images))
        if given:
            labels = jax.tree.map(lambda leaf: leaf[::-1], labels)
        options = {"loss_fn": loss_fn, "pseudo_label_fn": pseudo_label_fn}
        args = (apply_fn, params, images, labels if given else None)
        found = max_perturbed_loss(*args, rho=0.1, **options)
        rise = sharpness(*args, rho=0.1, **options)
        norms = gradient_norm(*args, **options)
        score = jax.jit(functools.partial(slow, apply_fn, loss_fn, rho=0.1))
        pairs = [score(params, image, jax.tree.map(lambda leaf: leaf[i], labels)) for i, image in enumerate(images)]  # noqa: B023
        clean, perturbed, gradients = (np.stack(values) for values in zip(*pairs, strict=True))
    assert found.shape == ((5,) if task == "detector" else (5, SIDE, SIDE))
    np.testing.assert_allclose(found, perturbed, rtol=1e-9)
    np.testing.assert_allclose(rise, perturbed - clean, atol=1e-9)
    np.testing.assert_allclose(norms, np.linalg.norm(gradients, axis=1), rtol=1e-9)


def test_the_terms_are_those_of_the_mean_loss():
    params, images = setting()
    options = {"loss_fn": pixel_loss, "pseudo_label_fn": most_likely_of_each}
    loss, gradient, _ = upper_bound_terms(segmenter, params, images, rho=0.01, iterations=2, **options)
    clean = max_perturbed_loss(segmenter, params, images, rho=0.0, **options)
    np.testing.assert_allclose(loss, clean.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(gradient, 0.01 * gradient_norm(segmenter, params, images, **options), rtol=1e-5)


def test_a_whole_pool_of_maps_in_one_sweep():
    params, images = setting()

    def score_fn(params, images):
        return max_perturbed_loss(segmenter, params, images, loss_fn=pixel_loss, pseudo_label_fn=most_likely_of_each)

    maps = score_pool(score_fn, params, images, chunk_size=2)
    np.testing.assert_allclose(maps, score_fn(params, images), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": {"classes": np.zeros((5, 2), int), "places": np.zeros((4, 2, 2), int)}},
            "int64[4, 2, 2] at ['places']",
        ),
        ({"loss_fn": lambda outputs, label: (outputs["heat"].sum(), {})}, "loss_fn returned tuple for one example"),
        ({"loss_fn": lambda outputs, label: outputs["heat"].argmax()}, "loss_fn returned int32[] for one example"),
        (
            {"apply_fn": lambda params, images: {"heat": params["heat"]}},
            "float32[3, 3, 5, 3] at ['heat'] for a batch of 5",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    params, images = setting()
    options = {"apply_fn": detector, "labels": None, "loss_fn": detection_loss, "pseudo_label_fn": decoded} | changes
    apply_fn, labels = options.pop("apply_fn"), options.pop("labels")
    with pytest.raises(InputError) as error:
        max_perturbed_loss(apply_fn, params, images, labels, **options)
    assert message in str(error.value)
