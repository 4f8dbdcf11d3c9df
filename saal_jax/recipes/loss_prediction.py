"""A module that learns to predict the loss, trained beside the network (LL4AL: Yoo and Kweon, CVPR 2019)."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le

from saal_jax.keys import named
from saal_jax.models import Weights
from saal_jax.models.loss_prediction import loss_prediction_module
from saal_jax.recipes.supervised import network_offers
from saal_jax.training import Ingredients, Recipe, TrainState, make_epoch, make_step, train
from saal_jax.typing import Array, PyTree


def loss_prediction(
    ingredients: Ingredients,
    *,
    margin: Annotated[float, Gt(0)] = 1.0,
    weight: Annotated[float, Ge(0)] = 1.0,
    joint: Annotated[float, Ge(0), Le(1)] = 0.6,
    width: Annotated[int, Ge(1), Le(4096)] = 128,
) -> Recipe:
    """Cross-entropy plus `weight` times a ranking loss of the module, on pairs inside each batch.

    A pair costs `max(0, margin - sign(l_i - l_j) (p_i - p_j))`. After the share `joint` of the epochs (120 of 200) the
    gradient of the module no longer enters the network. Of a task of pixels the module predicts the loss of each, and
    pairs are of pixels of the batch whose label is known.
    """
    of_pixels = ingredients.task.classes_of == "pixel"
    size = ingredients.image_shape[:2] if of_pixels else None
    module = loss_prediction_module(width=width, convolutions=False, size=size)

    def pair_fn(predicted, losses):
        return jnp.maximum(0, margin - jnp.sign(losses) * predicted)

    loss_fn = network_and_module_loss(ingredients, module, pair_fn, weight)
    epoch = make_epoch(make_step(loss_fn, ingredients), ingredients)
    schedule = ingredients.optimizer.schedule

    def train_both(key, state, training, progress=None):
        rates_fn = lambda done: {"learning": schedule(done), "joint": float(done < joint)}  # noqa: E731
        return train(epoch, state, training, key, rates_fn=rates_fn, mesh=ingredients.mesh, progress=progress)

    init = initialisation(ingredients, module)
    return Recipe(init, train_both, module_offers(ingredients, module), ingredients.mesh)


def initialisation(ingredients: Ingredients, module: Any) -> Callable:
    """`key -> TrainState` whose `params` are those of the `network` and of the `module`."""

    @jax.jit
    def init(key):
        images = jnp.zeros((1, *ingredients.image_shape))
        network = ingredients.model.init(key, images)  # that of every recipe
        stages = ingredients.model.outputs(network, images).stages
        params = {"network": network.params, "module": module.init(named(key, "module"), stages)}
        return TrainState(Weights(params, network.batch_stats), ingredients.optimizer.transformation.init(params))

    return init


def network_of(weights: PyTree) -> Weights:
    """The network alone."""
    return Weights(weights.params["network"], weights.batch_stats)


def network_and_module_loss(ingredients: Ingredients, module: Any, pair_fn: Callable, weight: float) -> Callable:
    """The loss of both, as `make_step` takes it; `rates["joint"]` is 0 where the module must not move the network."""

    def loss_fn(weights, batch, key, rates):
        mask = batch.mask
        outputs, batch_stats = ingredients.model.outputs_train(network_of(weights), batch.images, mask, key)
        losses = jax.vmap(ingredients.task.loss_fn)(outputs.logits, batch.labels)
        stages = [_joint_stage(stage, rates["joint"].astype(stage.dtype)) for stage in outputs.stages]
        predicted = module.apply(weights.params["module"], stages)
        fixed = jax.lax.stop_gradient(losses)
        if losses.ndim > 1:  # of pixels, of which void ones have the loss 0
            known = fixed > 0
            fixed = fixed * known.mean((1, 2), keepdims=True)  # of a pixel, however many are known
            pairs = pair_loss(pair_fn, predicted.ravel(), fixed.ravel(), (known * mask[:, None, None]).ravel())
            losses = losses.mean((1, 2))
        else:
            pairs = pair_loss(pair_fn, predicted, fixed, mask)
        return (losses * mask).sum() / mask.sum() + weight * pairs, batch_stats

    return loss_fn


def _joint_stage(stage, joint):
    """A stage of the network, through which gradients of the module pass where `joint` is 1, and none where it is 0."""
    return joint * stage + (1 - joint) * jax.lax.stop_gradient(stage)


def pair_loss(pair_fn: Callable, predicted: Array, losses: Array, mask: jax.Array) -> jax.Array:
    """The mean of `pair_fn(p_i - p_j, l_i - l_j)` over pairs of the rows in `mask`: the first with the last, and so on.

    Of an odd number the one in the middle is left out; of fewer than two the loss is 0.
    """
    order = jnp.argsort(1 - mask, stable=True)  # the rows in the mask come first
    count = mask.sum().astype(jnp.int32)
    position = jnp.arange(len(mask))
    first, second = order, order[jnp.clip(count - 1 - position, 0)]
    paired = position < count // 2
    costs = pair_fn(predicted[first] - predicted[second], losses[first] - losses[second])
    return jnp.where(paired, costs, 0).sum() / jnp.maximum(count // 2, 1)


def module_offers(ingredients: Ingredients, module: Any) -> dict:
    """What the network offers, and the predicted loss."""
    model, normalize = ingredients.model, ingredients.normalize

    def outputs(weights, images):
        return model.outputs(network_of(weights), images)

    def predicted_loss(weights, images):
        predicted = module.apply(weights.params["module"], outputs(weights, normalize(images)).stages)
        return ingredients.task.by_candidate(predicted)

    draw = model.sample
    sample = draw and (lambda weights, images, key: draw(network_of(weights), images, key))
    network = model._replace(outputs=outputs, sample=sample)
    return network_offers(network, ingredients) | {"predicted_loss": predicted_loss}
