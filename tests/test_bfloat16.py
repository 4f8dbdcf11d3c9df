"""Networks that compute in bfloat16: what is bfloat16, what stays float32, and that they train as they should."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from scipy.stats import spearmanr

from saal_jax import max_perturbed_loss
from saal_jax.engine.factors import value_and_factors
from saal_jax.models import MODELS, Weights, small_cnn
from saal_jax.models.layers import BatchNorm, in_float32
from saal_jax.models.loss_prediction import loss_prediction_module
from saal_jax.optimizers import sgd
from saal_jax.pool import Pool
from saal_jax.preprocessing import normalize
from saal_jax.recipes import RECIPES
from saal_jax.recipes.loss_prediction import initialisation, network_and_module_loss
from saal_jax.tasks.classification import classification
from saal_jax.training import Batch, Ingredients, Training

FLOAT32, BFLOAT16 = jnp.dtype("float32"), jnp.dtype("bfloat16")
SIZE = 24
IMAGES = jax.random.randint(jax.random.key(0), (SIZE, 8, 8, 1), 0, 256).astype(jnp.uint8)
IDS = np.arange(SIZE, dtype=np.uint32)
OPTIONS = {"ensemble": {"members": 2}, "semi_supervised_loss_prediction": {"left_out": 2, "module_epochs": 2}}
PREPARE = partial(normalize, mean=(0.3,), std=(0.4,))


def ingredients(dtype, width=4):
    return Ingredients(small_cnn(3, dtype, width=width), sgd(learning_rate=0.05), classification(3), PREPARE, (8, 8, 1))


def make(name, dtype):
    return RECIPES[name](ingredients(dtype), **OPTIONS.get(name, {}))


def trained(recipe, epochs):
    pool = Pool(IMAGES, IDS, IDS.astype(str))
    training = Training(pool, jnp.arange(SIZE) % 3, IDS < 14, IDS < 0, 0, 2, epochs, batch_size=4, capacity=20)
    return recipe.train(jax.random.key(2), recipe.init(jax.random.key(1)), training)


def products(fun, *args):
    """How many convolutions and matrix products `fun` has, by primitive and the dtypes of operands and result."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("conv_general_dilated", "dot_general"):
                dtypes = {atom.aval.dtype for atom in (*equation.invars, *equation.outvars)}
                yield equation.primitive.name, *dtypes
            for inner in jaxprs_in_params(equation.params):
                yield from walk(inner)

    return Counter(walk(jax.make_jaxpr(fun)(*args).jaxpr))


def shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name.startswith("semi") else name for name in RECIPES],
)
def test_every_recipe_trains_in_it_and_keeps_its_state_in_float32(name):
    recipe, plain = make(name, "bfloat16"), make(name, None)
    state, loss = trained(recipe, epochs=20)
    _, first_loss = trained(recipe, epochs=1)
    assert np.isfinite(loss) and loss < first_loss
    assert jax.tree.map(lambda leaf: leaf.dtype, state) == jax.tree.map(
        lambda leaf: leaf.dtype, plain.init(jax.random.key(1))
    )
    assert BFLOAT16 not in {leaf.dtype for leaf in jax.tree.leaves(state)}
    for offer in recipe.offers.keys() & {"apply", "features", "predicted_loss", "teacher", "students"}:
        found, expected = (jax.jit(made.offers[offer])(state.weights, IMAGES) for made in (recipe, plain))
        assert found.dtype == FLOAT32
        np.testing.assert_allclose(found, expected, rtol=0.03, atol=0.03 * np.abs(expected).max())
        assert (found != expected).any()


@pytest.mark.parametrize("name", RECIPES)
def test_both_begin_with_the_same_weights(name):
    found, expected = (make(name, dtype).init(jax.random.key(1)) for dtype in ("bfloat16", None))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("small_cnn", 2)])
def test_all_products_but_the_last_layers_are_in_it(name, convolutions):
    model = MODELS[name](3, jnp.bfloat16, width=2)
    weights, images, mask = shapes(model), jnp.zeros((5, 8, 8, 1)), jnp.ones(5)
    forward = {("conv_general_dilated", BFLOAT16): convolutions, ("dot_general", FLOAT32): 1}
    assert products(model.apply, weights, images) == forward

    def loss_fn(params, batch_stats):
        outputs, updated = model.outputs_train(Weights(params, batch_stats), images, mask, jax.random.key(0))
        return outputs.logits.sum(), updated

    both = products(jax.grad(loss_fn, has_aux=True), *weights)
    # The gradients by kernels and inputs, of which the images have none.
    assert both == {("conv_general_dilated", BFLOAT16): 3 * convolutions - 1, ("dot_general", FLOAT32): 3}
    gradients, updated = jax.eval_shape(jax.grad(loss_fn, has_aux=True), *weights)
    assert {leaf.dtype for leaf in jax.tree.leaves((gradients, updated))} == {FLOAT32}


def test_the_module_that_predicts_losses_convolves_in_it_too():
    made, module = ingredients(BFLOAT16), loss_prediction_module(width=8, convolutions=True)
    loss_fn = network_and_module_loss(made, module, lambda predicted, losses: predicted * losses, 1.0)
    state = jax.eval_shape(initialisation(made, module), jax.random.key(0))
    batch = Batch(jnp.zeros((4, 8, 8, 1)), jnp.zeros(4, int), jnp.ones(4))
    found = products(loss_fn, state.weights, batch, jax.random.key(0), {"joint": jnp.ones(())})
    assert {kind for kind in found if kind[0] == "conv_general_dilated"} == {("conv_general_dilated", BFLOAT16)}
    assert found["conv_general_dilated", BFLOAT16] == 3


@pytest.mark.parametrize("name", ["resnet18", "small_cnn"])
def test_as_many_leaves_are_factored_and_what_they_keep_is_half(name):
    counts, sizes = [], []
    for dtype in (None, BFLOAT16):
        model = MODELS[name](3, dtype, width=4)
        weights, image = shapes(model), jnp.zeros((8, 8, 1))

        def fun(params, image, model=model, weights=weights):
            batch_stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), weights.batch_stats)  # noqa: B023
            return model.apply(Weights(params, batch_stats), image[None]).sum(), ()

        factors_fn, gradients_fn = value_and_factors(fun, weights.params, image)
        _, factors = jax.eval_shape(factors_fn, weights.params, image)
        entering, arriving, gradients = factors
        counts.append((len(entering), len(arriving), len(gradients)))
        sizes.append(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((entering, arriving))))
        assert jax.eval_shape(gradients_fn, factors) == jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, FLOAT32), weights.params
        )
    kernels = sum(leaf.ndim > 1 for leaf in jax.tree.leaves(weights.params))
    assert counts[0] == counts[1] and counts[0][0] == kernels
    last = 4 * (3 + weights.params["Linear_0"]["Dense_0"]["kernel"].shape[0])  # float32 in both
    assert sizes[1] - last == (sizes[0] - last) / 2


@pytest.mark.optimized
def test_scores_rank_as_in_float32():
    images = jax.random.normal(jax.random.key(3), (200, 8, 8, 1))
    weights = jax.jit(small_cnn(10).init)(jax.random.key(0), images)
    found = []
    for dtype in (None, BFLOAT16):
        model = small_cnn(10, dtype)
        apply_fn = lambda params, images, model=model: model.apply(Weights(params, {}), images)  # noqa: E731
        found.append(max_perturbed_loss(apply_fn, weights.params, images, rho=0.5))
    assert found[1].dtype == FLOAT32
    np.testing.assert_allclose(found[1], found[0], rtol=0.02)
    assert spearmanr(*found).statistic > 0.99


@pytest.mark.optimized
def test_a_gradient_from_factors_is_summed_in_float32():
    """Of 4,096 ones, which bfloat16 would count to 256: 64 x 64 products at the middle of the kernel, 63 x 63 aside."""
    image, kernel = jnp.ones((1, 64, 64, 1)), jnp.ones((3, 3, 1, 2))

    def fun(kernel, image):
        operands = image.astype(BFLOAT16), kernel.astype(BFLOAT16)
        outputs = jax.lax.conv_general_dilated(*operands, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return outputs.astype(FLOAT32).sum(), ()

    factors_fn, gradients_fn = value_and_factors(fun, kernel, image)
    _, factors = factors_fn(kernel, image)
    assert len(factors[0]) == 1
    aside = np.array([63, 64, 63])
    expected = np.broadcast_to(np.outer(aside, aside)[..., None, None], kernel.shape)
    np.testing.assert_allclose(jax.jit(gradients_fn)(factors), expected, rtol=2**-8)


def test_statistics_are_float32():
    """Of 1,000 values around 300, which bfloat16 tells apart in steps of 2 and counts to 256."""
    inputs = (300 + 10 * jax.random.normal(jax.random.key(0), (1000, 2))).astype(jnp.bfloat16)
    layer, plain = BatchNorm(dtype=BFLOAT16), BatchNorm()
    variables = plain.init(jax.random.key(0), inputs.astype(jnp.float32), train=True)
    options = {"train": True, "mask": jnp.ones(1000), "mutable": ["batch_stats"]}
    outputs, found = layer.apply(variables, inputs, **options)
    expected_outputs, expected = plain.apply(variables, inputs.astype(jnp.float32), **options)
    assert outputs.dtype == BFLOAT16
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    np.testing.assert_array_equal(outputs, expected_outputs.astype(BFLOAT16))


@pytest.mark.optimized
def test_a_mean_behind_bfloat16_layers_is_finite():
    """Fused with both convolutions by YNNPACK on a CPU (JAX 0.12), as without `in_float32`, it was NaN."""
    inputs = jax.random.normal(jax.random.key(0), (2, 4, 4, 128), BFLOAT16)
    kernel = (jax.random.normal(jax.random.key(1), (3, 3, 128, 128)) / 34).astype(BFLOAT16)

    def convolve(inputs):
        return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def mean(inputs):
        return in_float32(jax.nn.relu(convolve(jax.nn.relu(convolve(inputs))) + inputs)).mean(axis=(1, 2))

    found = jax.jit(mean)(inputs)
    assert found.dtype == FLOAT32
    np.testing.assert_allclose(found, mean(inputs), atol=0.02)
