"""The scores inside what a caller does with JAX: the same as of a plain call."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from saal_jax import (
    InputError,
    expected_gradient_length,
    gradient_norm,
    max_perturbed_loss,
    sharpness,
    upper_bound_terms,
)
from saal_jax.scores import perturbed_loss


def network(params, images):
    hidden = jnp.tanh(images.reshape(len(images), -1) @ params["w"])
    return hidden @ params["v"] + params["b"][None]


def setting():
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = {"w": (4, 5), "v": (5, 3), "b": (3,)}
    params = {name: jax.random.normal(key, shapes[name]) for key, name in zip(keys, shapes, strict=False)}
    return params, jax.random.normal(keys[3], (6, 2, 2)), jnp.array([0, 1, 2, 2, 1, 0])


SCORES = {
    "max_perturbed_loss": lambda *args: max_perturbed_loss(network, *args),
    "sharpness": lambda *args: sharpness(network, *args),
    "upper_bound_terms": lambda *args: jnp.stack(upper_bound_terms(network, *args, iterations=5), axis=-1),
    "gradient_norm": lambda *args: gradient_norm(network, *args),
    "expected_gradient_length": lambda params, images, labels=None: expected_gradient_length(network, params, images),
}
LABELLED = [name for name in SCORES if name != "expected_gradient_length"]  # that takes none


def in_jit(score, params, images, *labels):
    return jax.jit(score)(params, images, *labels), score(params, images, *labels)


def in_jit_with_donated_weights(score, params, images, *labels):
    expected = score(params, images, *labels)
    found, _ = jax.jit(lambda params, *args: (score(params, *args), params), donate_argnums=0)(params, images, *labels)
    assert params["w"].is_deleted()
    return found, expected


def in_vmap_over_params(score, params, images, *labels):
    members = [params, jax.tree.map(lambda leaf: 2 * leaf, params)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    found = jax.vmap(lambda params: score(params, images, *labels))(stacked)
    return found, jnp.stack([score(member, images, *labels) for member in members])


def in_vmap_over_batches(score, params, images, *labels):
    batches = [(images, *labels), (images[::-1] + 1, *(array[::-1] for array in labels))]
    stacked = [jnp.stack(arrays) for arrays in zip(*batches, strict=True)]
    found = jax.jit(jax.vmap(lambda *batch: score(params, *batch)))(*stacked)
    return found, jnp.stack([score(params, *batch) for batch in batches])


def beside_a_loss(score, params, images, *labels):
    def loss_and_score(params):
        return (network(params, images) ** 2).mean(), score(params, images, *labels)

    (_, found), gradients = jax.jit(jax.value_and_grad(loss_and_score, has_aux=True))(params)
    np.testing.assert_allclose(
        gradients["b"], jax.grad(lambda params: loss_and_score(params)[0])(params)["b"], rtol=1e-5
    )
    return found, score(params, images, *labels)


def as_a_weight_of_a_loss(score, params, images, *labels):
    def loss(params):
        return (jax.lax.stop_gradient(score(params, images, *labels)) ** 2).sum() * params["b"].sum()

    return jax.grad(loss)(params)["b"], jnp.full(3, (score(params, images, *labels) ** 2).sum())


TRANSFORMS = [
    in_jit,
    in_jit_with_donated_weights,
    in_vmap_over_params,
    in_vmap_over_batches,
    beside_a_loss,
    as_a_weight_of_a_loss,
]


GIVEN = ("none", "passed", "closed over", "closed over on the host")
CASES = [(transform, name, given) for transform in TRANSFORMS for name in LABELLED for given in GIVEN]
CASES += [(transform, "expected_gradient_length", "none") for transform in TRANSFORMS]


def at_once(transform, name, given):
    """Each transformation, and each way to give labels, once."""
    return name == "max_perturbed_loss" and (given == "passed" if transform is not in_jit else given != "none")


@pytest.mark.parametrize(
    ("transform", "name", "given"),
    [pytest.param(*case, marks=[] if at_once(*case) else pytest.mark.slow) for case in CASES],
)
def test_inside_a_transformation_scores_are_those_of_a_plain_call(transform, name, given):
    (params, images, labels), score = setting(), SCORES[name]
    if given == "passed":
        found, expected = transform(score, params, images, labels)
    else:
        known = {"none": None, "closed over": labels, "closed over on the host": labels.tolist()}[given]
        found, expected = transform(lambda params, images: score(params, images, known), params, images)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("flight", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_so_are_those_of_few_images_at_a_time(flight, monkeypatch):
    def few(params, images, labels):
        return max_perturbed_loss(lambda params, images: network(params, images), params, images, labels)

    params, images, labels = setting()
    expected = few(params, images, labels)
    monkeypatch.setattr(perturbed_loss, "_CACHED_BYTES", flight * sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
    for transform in (in_jit, in_vmap_over_params, in_vmap_over_batches, beside_a_loss):
        found, _ = transform(few, params, images, labels)
        first = found[0] if found.ndim == 2 else found
        np.testing.assert_allclose(first, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("wrap", [jax.jit, jax.vmap, jax.grad])
@pytest.mark.parametrize("labels", [jnp.array([0, 1, 2, 3, 0, 0]), [0, 1, 2, 3, 0, 0]])
@pytest.mark.parametrize("name", LABELLED)
def test_known_labels_out_of_range_are_refused_there_too(name, labels, wrap):
    params, images, _ = setting()
    with pytest.raises(InputError, match="0 to 3, but the model has the classes 0..2"):
        wrap(lambda scale: SCORES[name](params, images * scale, labels).sum())(jnp.ones(2) if wrap is jax.vmap else 1.0)


def test_a_known_radius_is_checked_there_too():
    params, images, _ = setting()
    rho, wrong = jnp.float32(0.1), jnp.float32(-0.1)
    found = jax.jit(lambda images: max_perturbed_loss(network, params, images, rho=rho))(images)
    np.testing.assert_allclose(found, max_perturbed_loss(network, params, images, rho=rho), rtol=1e-5)
    with pytest.raises(InputError, match="rho is -0.1"):
        jax.jit(lambda images: max_perturbed_loss(network, params, images, rho=wrong))(images)


OTHERS = [pytest.param(score, marks=pytest.mark.slow) for score in (sharpness, gradient_norm)]


@pytest.mark.parametrize("score", [max_perturbed_loss, *OTHERS])
def test_scores_are_differentiated_by_what_they_depend_on(score):
    with jax.enable_x64(True):
        params, images, labels = setting()
        params, images = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, images))
        check_grads(lambda params, images: score(network, params, images, labels), (params, images), 1, ["rev"])
        if score is not gradient_norm:
            check_grads(lambda rho: score(network, params, images, labels, rho=rho), (0.1,), 1, ["rev"])


ON_FOUR_DEVICES = """
import importlib.util, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from saal_jax import InputError

spec = importlib.util.spec_from_file_location("inside", sys.argv[1])
inside = importlib.util.module_from_spec(spec)
spec.loader.exec_module(inside)

params, images, labels = inside.setting()
images, labels = jnp.concatenate([images, images + 1])[:8], jnp.concatenate([labels, labels])[:8]
mesh = jax.make_mesh((4,), ("devices",), axis_types=(AxisType.Auto,))

def spread(fun, *args, **options):
    specs = (P(), *(P("devices") for _ in args[1:]))
    return jax.jit(jax.shard_map(fun, mesh=mesh, in_specs=specs, out_specs=P("devices"), **options))(*args)

def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)

for name in sys.argv[2:]:
    score = inside.SCORES[name]
    close(spread(score, params, images, check_vma=False), score(params, images))
    close(spread(score, params, images, labels, check_vma=False), score(params, images, labels))
    for known in (jnp.array([2, 1]), [2, 1]):
        found = spread(lambda params, images: score(params, images, known), params, images, check_vma=False)
        close(found, score(params, images, jnp.tile(jnp.array(known), 4)))
    try:
        spread(score, params, images)
    except InputError as error:
        assert "check_vma=False" in str(error)
    else:
        raise AssertionError(f"{name}: a gradient summed over the devices")
"""


@pytest.mark.parametrize("names", [["max_perturbed_loss"], pytest.param([*SCORES], marks=pytest.mark.slow)], ids=len)
def test_inside_a_shard_map_scores_are_those_of_a_plain_call(names):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", ON_FOUR_DEVICES, __file__, *names], check=True, env=environment)
