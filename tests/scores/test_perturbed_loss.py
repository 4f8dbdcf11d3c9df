"""The score: identities, an independent loop in float64, and its door."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saal_jax import (
    InputError,
    expected_gradient_length,
    gradient_norm,
    max_perturbed_loss,
    sharpness,
    upper_bound_terms,
)
from saal_jax.models import resnet18, small_cnn
from tests.toys import convolved, convolved_params

SCORES = [max_perturbed_loss, sharpness, upper_bound_terms, gradient_norm, expected_gradient_length]


def linear(params, images):
    return images @ params["w"] + params["b"][None]


def linear_setting(seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {"w": jax.random.normal(keys[0], (4, 3), dtype), "b": jax.random.normal(keys[1], (3,), dtype)}
    return params, jax.random.normal(keys[2], (6, 4), dtype)


def cnn_setting(model=None):
    images = jax.random.normal(jax.random.key(1), (9, 8, 8, 1))
    if model is None:
        return convolved, convolved_params(), images
    weights = jax.jit(model.init)(jax.random.key(0), images)
    apply_fn = jax.jit(lambda params, images: model.apply(weights._replace(params=params), images))
    return apply_fn, weights.params, images


def cross_entropy(apply_fn, params, image, label):
    return optax.softmax_cross_entropy_with_integer_labels(apply_fn(params, image[None])[0], label)


def slow_score(apply_fn, params, image, label, rho, adaptive):
    """The definition, for one image, without vmap or rewriting."""
    gradients = jax.grad(lambda params: cross_entropy(apply_fn, params, image, label))(params)
    flat_w, unravel = jax.flatten_util.ravel_pytree(params)
    flat_g, _ = jax.flatten_util.ravel_pytree(gradients)
    if adaptive:
        moved = flat_w + rho * flat_w**2 * flat_g / (jnp.linalg.norm(jnp.abs(flat_w) * flat_g) + 1e-12)
    else:
        moved = flat_w + rho * flat_g / (jnp.linalg.norm(flat_g) + 1e-12)
    return cross_entropy(apply_fn, unravel(moved), image, label)


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        (small_cnn(10, width=4), True),
        (None, False),
        pytest.param(small_cnn(10, width=4), False, marks=pytest.mark.slow),
        pytest.param(resnet18(10, width=1), True, marks=pytest.mark.slow),
    ],
)
def test_equals_a_plain_loop_in_float64(model, adaptive):
    with jax.enable_x64(True):
        apply_fn, params, images = cnn_setting(model)
        params, images = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, images[:4]))
        scores = max_perturbed_loss(apply_fn, params, images, rho=0.1, adaptive=adaptive)
        labels = apply_fn(params, images).argmax(1)
        score = jax.jit(functools.partial(slow_score, apply_fn, rho=0.1, adaptive=adaptive))
        expected = [score(params, *pair) for pair in zip(images, labels, strict=True)]
    assert scores.dtype == jnp.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_hand_worked_value_at_a_given_label():
    params = {"w": jnp.array([[1.0, 0.0], [0.0, 1.0]]), "b": jnp.zeros(2)}
    image = jnp.array(
        [[0.0, 0.0]]
    )  # p = (1/2, 1/2); gradient: only the bias, (1/2, -1/2) at label 1, of norm 1/sqrt(2)
    score = max_perturbed_loss(linear, params, image, jnp.array([1]), rho=1.0, adaptive=False)
    np.testing.assert_allclose(score, np.log1p(np.exp(2**0.5)), rtol=1e-6)


def test_rho_zero_is_the_clean_loss():
    apply_fn, params, images = cnn_setting()
    logits = apply_fn(params, images)
    clean = optax.softmax_cross_entropy_with_integer_labels(logits, logits.argmax(1))
    np.testing.assert_allclose(max_perturbed_loss(apply_fn, params, images, rho=0.0), clean, rtol=1e-5)
    np.testing.assert_allclose(sharpness(apply_fn, params, images, rho=0.0), np.zeros(9), atol=1e-6)


def test_sharpness_is_the_difference_to_the_clean_loss():
    apply_fn, params, images = cnn_setting()
    labels = jnp.arange(9) % 10
    clean = jax.vmap(lambda image, label: cross_entropy(apply_fn, params, image, label))(images, labels)
    rise = sharpness(apply_fn, params, images, labels, rho=0.1)
    assert (rise > 0).all()
    np.testing.assert_allclose(max_perturbed_loss(apply_fn, params, images, labels, rho=0.1) - clean, rise, atol=1e-5)


def test_neither_order_nor_neighbours_matter():
    apply_fn, params, images = cnn_setting()
    scores = max_perturbed_loss(apply_fn, params, images)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(max_perturbed_loss(apply_fn, params, images[order]), scores[order], rtol=1e-5, atol=1e-6)
    alone = [max_perturbed_loss(apply_fn, params, images[i : i + 1])[0] for i in range(9)]
    np.testing.assert_allclose(alone, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_zero_gradient_gives_the_clean_loss(adaptive):
    def certain(params, images):  # logits so far apart that the softmax is exactly one-hot
        return images @ params + jnp.array([[1e4, 0.0, 0.0]])

    scores = max_perturbed_loss(certain, jnp.ones((2, 3)), jnp.zeros((2, 2)), adaptive=adaptive)
    np.testing.assert_array_equal(scores, [0.0, 0.0])


def test_pseudo_labels_are_the_labels_of_the_largest_logit():
    params, images = linear_setting()
    labels = linear(params, images).argmax(1)
    np.testing.assert_array_equal(
        max_perturbed_loss(linear, params, images), max_perturbed_loss(linear, params, images, labels)
    )
    assert (
        max_perturbed_loss(linear, params, images, (labels + 1) % 3) > max_perturbed_loss(linear, params, images)
    ).all()


def test_one_trace_for_all_weights_and_radii():
    params, images = linear_setting()
    traced = chex.assert_max_traces(linear, n=5)  # at the door, and within one trace of the score: jaxpr twice, shapes
    for rho in (0.05, 0.1, 0.2):
        max_perturbed_loss(traced, params, images, rho=rho)
        params = jax.tree.map(lambda leaf: leaf + 1, params)


def test_labels_do_not_trace_again():
    params, images = linear_setting()
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(linear, n=5)
    for labels in ([0, 1, 2, 0, 1, 2], np.zeros(6, int), jnp.ones(6, int)):
        max_perturbed_loss(traced, params, images, labels)


def test_vmaps_over_an_ensemble():
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(linear_setting(seed)[0] for seed in range(3)))
    _, images = linear_setting()
    scores = jax.vmap(lambda params: max_perturbed_loss(linear, params, images))(several)
    expected = max_perturbed_loss(linear, linear_setting(2)[0], images)
    np.testing.assert_allclose(scores[2], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_stays_half_and_is_finite(dtype):
    params, images = jax.tree.map(lambda leaf: leaf.astype(dtype), linear_setting())
    for rho in (0.05, np.float32(0.05), jnp.float32(0.05)):
        scores = max_perturbed_loss(linear, params, images, rho=rho)
        assert scores.dtype == dtype
        exact = max_perturbed_loss(linear, *jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, images)))
        np.testing.assert_allclose(scores.astype(jnp.float32), exact, rtol=0.1, atol=0.05)
    flat = max_perturbed_loss(linear, jax.tree.map(lambda leaf: leaf * 0, params), images[:1] * 0, jnp.array([0]))
    assert np.isfinite(flat).all()
    saturated = max_perturbed_loss(linear, jax.tree.map(lambda leaf: leaf * 30, params), images)
    assert np.isfinite(saturated).all()


@pytest.mark.parametrize(
    ("given", "described"),
    [
        (lambda logits: logits[0], "float32[3]"),
        (lambda logits: logits[:1], "float32[1, 3]"),
        (lambda logits: logits[:, None], "float32[6, 1, 3]"),
        (lambda logits: logits[:, :0], "float32[6, 0]"),
        (lambda logits: logits.astype(int), "int32[6, 3]"),
        (lambda logits: logits.astype(complex), "complex64[6, 3]"),
        (lambda logits: (logits, {}), "tuple"),
        (lambda logits: {"logits": logits}, "dict"),
        (lambda logits: None, "NoneType"),
        (lambda logits: "logits", "str"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_apply_fn_must_return_logits(score, given, described):
    params, images = linear_setting()
    with pytest.raises(InputError) as error:
        score(lambda params, images: given(linear(params, images)), params, images)
    assert f"apply_fn returned {described} for a batch of 6: it must return logits of shape [6, C]" in str(error.value)


def test_apply_fn_must_return_logits_of_one_image_too():
    params, images = linear_setting()
    with pytest.raises(InputError, match=r"returned float32\[3\] for a batch of 1"):
        max_perturbed_loss(lambda params, images: linear(params, images).squeeze(), params, images)


@pytest.mark.parametrize("score", SCORES)
def test_what_apply_fn_raises_is_raised(score):
    params, images = linear_setting()
    with pytest.raises(KeyError, match="kernel"):
        score(lambda params, images: images @ params["kernel"], params, images)


@pytest.mark.parametrize(
    ("leaf", "described"),
    [
        (jnp.uint32(0), "uint32[]"),
        (np.ones((2, 3), bool), "bool[2, 3]"),
        (jax.random.key(0), "key<fry>[]"),
        (jnp.ones(2, complex), "complex64[2]"),
        (np.array(["relu"]), "<U4[1]"),
        (3, "int"),
        (1j, "complex"),
        ("relu", "str"),
        (object(), "object"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_a_leaf_that_is_not_floating_is_named(score, leaf, described):
    params, images = linear_setting()
    with pytest.raises(InputError) as error:
        score(lambda params, images: linear(params["layers"][0], images), {"layers": [params, {"x": leaf}]}, images)
    assert f"params['layers'][1]['x'] is {described}: " in str(error.value)
    assert "belongs in apply_fn" in str(error.value)


@pytest.mark.parametrize("score", SCORES)
def test_params_without_leaves_and_images_without_rows(score):
    params, images = linear_setting()
    for empty in ({}, None, [{"w": None}]):
        with pytest.raises(InputError, match="params has no leaves"):
            score(linear, empty, images)
    for wrong, described in ((jnp.ones(()), r"float32\[\]"), ([[1.0, 2.0, 3.0, 4.0]], "list"), ({"x": images}, "dict")):
        with pytest.raises(InputError, match=f"images are {described}: pass one array"):
            score(linear, params, wrong)


@pytest.mark.parametrize("score", SCORES)
def test_floats_numpy_arrays_and_none_may_be_leaves(score):
    def network(params, images):
        return linear(params, images) * params["scale"]

    params, images = linear_setting()
    found = score(network, {**jax.tree.map(np.asarray, params), "scale": 2.0, "none": None}, np.asarray(images))
    expected = score(network, {**params, "scale": jnp.float32(2)}, images)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


@pytest.mark.parametrize("score", SCORES[:-1])
def test_an_empty_batch_has_no_scores(score):
    def flat(params, images):
        return linear(params, images.reshape(len(images), -1))  # refused by JAX where there are no images

    params, _ = linear_setting()
    for labels in (None, jnp.zeros(0, int)):
        chex.assert_tree_shape_prefix(score(flat, params, jnp.zeros((0, 2, 2)), labels), (0,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(rho=-0.1), "rho is -0.1"),
        (dict(rho=float("nan")), "rho is nan"),
        (dict(rho=float("inf")), "rho is inf"),
        (dict(rho=jnp.array([0.1])), "rho is [0.1]"),
        (dict(rho="0.1"), "rho is 0.1"),
        (dict(rho=None), "rho is None"),
        (dict(labels=[0, 1, 2]), "int64[3] for 6 images"),
        (dict(labels=jnp.zeros(6)), "integers of shape [6]"),
        (dict(labels=list("aabbcc")), "<U1[6] for 6 images"),
        (dict(labels=[[0], [1, 2], 0, 0, 0, 0]), "list for 6 images"),
        (dict(labels=jnp.zeros(5, int)), "int32[5] for 6 images"),
        (dict(labels=jnp.array([0, 1, 2, 3, 0, 0])), "0 to 3, but the model has the classes 0..2"),
        (dict(labels=jnp.array([0, -1, 2, 0, 0, 0])), "-1 to 2"),
    ],
)
@pytest.mark.parametrize("score", [max_perturbed_loss, sharpness])
def test_the_door(score, arguments, message):
    params, images = linear_setting()
    with pytest.raises(InputError) as error:
        score(linear, params, images, **arguments)
    assert message in str(error.value)
