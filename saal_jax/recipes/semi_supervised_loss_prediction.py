"""A loss-prediction module that also learns from unlabelled images (SSLPM: Hwang, Choi and Choi, IEEE Access 2024)."""

from typing import Annotated

import jax
import numpy as np
import optax
from annotated_types import Ge, Gt, Le

from saal_jax.engine.devices import local, replicate
from saal_jax.engine.sweep import score_available
from saal_jax.errors import InputError
from saal_jax.keys import named
from saal_jax.models.loss_prediction import loss_prediction_module
from saal_jax.recipes.loss_prediction import (
    initialisation,
    module_offers,
    network_and_module_loss,
    network_of,
    pair_loss,
)
from saal_jax.select.selectors import random_k, top_k
from saal_jax.strong_augmentation import strong
from saal_jax.training import Ingredients, Recipe, TrainState, make_batches, make_epoch, make_step, prepared, train

_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4


def semi_supervised_loss_prediction(
    ingredients: Ingredients,
    *,
    left_out: Annotated[int, Ge(0)] = 24,
    module_rate: Annotated[float, Gt(0)] = 0.5,
    module_epochs: Annotated[int, Ge(0)] = 30,
    module_learning_rate: Annotated[float, Gt(0)] = 0.01,
    unlabelled_batch: Annotated[int, Ge(2)] = 1536,
    confidence: Annotated[float, Ge(0), Le(1)] = 0.9,
    width: Annotated[int, Ge(1), Le(4096)] = 128,
) -> Recipe:
    """Network and module together as in `loss_prediction`, then the module alone, on labelled and unlabelled images.

    A pair costs `BCE(sigmoid(p_i - p_j), [l_i > l_j])`. The module learns at `module_rate` times the optimizer's
    learning rate. `left_out` labelled images take no part in the first stage: at random in the first cycle, later those
    of the lowest loss, half of them old and half new; none in the last cycle, which has no second stage either (so that
    a run to which cycles are added later differs from one that was planned so).

    Second stage, `module_epochs` of SGD with the network frozen in evaluation mode: the pair loss of a labelled batch
    plus that of `unlabelled_batch` other images. Where the network is sure of a weakly augmented one (its largest
    probability at least `confidence`), the loss to predict is the cross-entropy between these probabilities and those
    of the strongly augmented one.

    Optimizers restart in every cycle; whether the weights do, `warm_start` says (in the paper they do not).
    """
    if ingredients.task.classes_of != "image":
        raise InputError(
            "recipe semi_supervised_loss_prediction compares the classes of two augmentations of an image: it needs "
            "one class for each image, use recipe supervised"
        )
    module = loss_prediction_module(width=width, convolutions=True)
    optimizer = ingredients.optimizer
    transformation = optax.chain(optimizer.transformation, _scale_module(module_rate))
    ingredients = ingredients._replace(optimizer=optimizer._replace(transformation=transformation))
    loss_fn = network_and_module_loss(ingredients, module, _pair_cost, weight=1.0)
    epoch = make_epoch(make_step(loss_fn, ingredients), ingredients)
    alone = optax.chain(optax.add_decayed_weights(_WEIGHT_DECAY), optax.sgd(module_learning_rate, _MOMENTUM))
    module_epoch = make_epoch(_module_step(ingredients, module, alone, confidence), ingredients)
    offers, mesh = module_offers(ingredients, module), ingredients.mesh

    def losses(weights, chunk):
        images, labels = chunk
        return ingredients.task.losses(offers["apply"](weights, images), labels)

    def taking_part(key, weights, training):
        """The labelled examples that the first stage trains on."""
        mask, pool = training.labelled.copy(), training.pool
        if training.cycle == training.cycles:
            return mask
        if left_out >= mask.sum():
            raise InputError(f"left_out is {left_out} of {mask.sum()} labelled images: lower it")
        if training.cycle == 0:
            chosen = [random_k(named(key, "left out"), pool.ids, mask, left_out)]
        else:
            scores = score_available(losses, weights, (pool.images, training.labels), mask, pool.names, mesh=mesh)
            parts = (("old", mask & ~training.new, left_out // 2), ("new", training.new, left_out - left_out // 2))
            chosen = [
                top_k(named(key, f"{age} left out"), -scores, pool.ids, part, count) for age, part, count in parts
            ]
        for selection in chosen:
            mask[np.asarray(selection.indices)[: int(selection.count)]] = False
        return mask

    def train_both(key, state, training, progress=None):
        second = module_epochs if training.cycle < training.cycles and not training.labelled.all() else 0
        report = progress and (lambda done, total: progress(done, total + second))
        mask = taking_part(key, state.weights, training)
        start = TrainState(state.weights, transformation.init(state.weights.params))
        rates_fn = lambda done: {"learning": optimizer.schedule(done), "joint": 1.0}  # noqa: E731
        state, loss = train(
            epoch, start, training, named(key, "both"), rates_fn=rates_fn, mask=mask, mesh=mesh, progress=report
        )
        weights = (
            train_module(named(key, "module"), state.weights, training, second, report) if second else state.weights
        )
        return TrainState(weights, state.opt_state), loss

    def train_module(key, weights, training, epochs, progress):
        pool, unlabelled = training.pool, ~training.labelled
        params = weights.params["module"]
        start = (TrainState(weights, alone.init(params)), pool.images, training.labels)
        state, images, labels = replicate(start, mesh)
        for number in range(epochs):
            epoch_key = named(key, "epoch", number)
            batches, steps = make_batches(
                named(epoch_key, "order"), pool.ids, training.labelled, training.batch_size, training.capacity
            )
            others, filled = make_batches(
                named(epoch_key, "other order"), pool.ids, unlabelled, unlabelled_batch, len(pool.ids)
            )
            others = others[np.arange(len(batches)) % filled]
            state, _ = module_epoch(state, images, labels, (batches, others), steps, epoch_key, {})
            if progress:
                progress(training.epochs + number + 1, training.epochs)
        return local(state, mesh).weights

    return Recipe(initialisation(ingredients, module), train_both, offers, mesh)


def _pair_cost(predicted, losses):
    return optax.sigmoid_binary_cross_entropy(predicted, (losses > 0).astype(predicted.dtype))


def _scale_module(rate):
    """The module's share of the learning rate."""

    def scaled(updates, params):
        del params
        return updates | {"module": jax.tree.map(lambda update: rate * update, updates["module"])}

    return optax.stateless(scaled)


def _module_step(ingredients, module, transformation, confidence):
    """One step of the module alone, on a labelled and an unlabelled batch."""
    model = ingredients.model

    def step(state, batches, key, rates):
        del rates
        network, params = network_of(state.weights), state.weights.params["module"]
        batch = prepared(ingredients, batches[0], named(key, "augmentation"))
        outputs = model.outputs(network, batch.images)
        losses = ingredients.task.losses(outputs.logits, batch.labels)

        weak = prepared(
            ingredients._replace(normalize=lambda images: images), batches[1], named(key, "weak augmentation")
        )
        stored = weak.images
        probabilities = jax.nn.softmax(model.apply(network, ingredients.normalize(stored)))
        sure = weak.mask * (probabilities.max(axis=1) >= confidence)
        other_outputs = model.outputs(network, ingredients.normalize(strong(named(key, "strong augmentation"), stored)))
        other_losses = optax.softmax_cross_entropy(other_outputs.logits, probabilities)

        def loss_fn(params):
            known = pair_loss(_pair_cost, module.apply(params, outputs.stages), losses, batch.mask)
            return known + pair_loss(_pair_cost, module.apply(params, other_outputs.stages), other_losses, sure)

        loss, gradients = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = transformation.update(gradients, state.opt_state, params)
        trained = state.weights.params | {"module": optax.apply_updates(params, updates)}
        return TrainState(state.weights._replace(params=trained), opt_state), loss

    return step
