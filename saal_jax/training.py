"""Supervised training on the labelled part of the pool, one compiled step (CPU) or epoch (accelerator) at a time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from saal_jax.devices import local, replicate, replicated, split_batches, split_rows
from saal_jax.models import Weights
from saal_jax.selection import random


class TrainState(NamedTuple):
    """Everything that a training step changes."""

    weights: Weights
    opt_state: optax.OptState


class Recipe(NamedTuple):
    """How to train, as functions that are compiled once a run.

    init: `key -> TrainState`; the same key gives the same initialisation.
    epoch: `(state, images, labels, batches[S, B], num_steps, key) -> (state, summed loss)`; donates `state`.
    apply: `(weights, images) -> logits` of stored (uint8) images, in evaluation mode.
    mesh: the devices that share each batch, for `train`; None for one device.
    """

    init: Callable
    epoch: Callable
    apply: Callable
    mesh: Mesh | None


def supervised(model, optimizer, augment, normalize, image_shape, *, mesh=None, compiled_loop=None) -> Recipe:
    """Plain supervised training of a `Model` by an `Optimizer` on `normalize(augment(key, images))`.

    With a `mesh` the devices share each batch: gradients and batch statistics are those of the whole batch, so the
    result is that of one device up to rounding.
    """

    @jax.jit
    def init(key):
        weights = model.init(key, jnp.zeros((1, *image_shape)))
        return TrainState(weights, optimizer.transformation.init(weights.params))

    def apply(weights, images):
        return model.apply(weights, normalize(images))

    step = make_step(model, optimizer, augment, normalize, mesh=mesh)
    return Recipe(init, make_epoch(step, mesh=mesh, compiled_loop=compiled_loop), apply, mesh)


def make_step(model, optimizer, augment, normalize, *, mesh=None):
    """Returns `step(state, images, labels, indices[B], key) -> (state, summed loss)`, to be jitted by its caller.

    The batch is `images[indices]`, gathered, augmented and normalised inside; indices of -1 are padding, and enter
    neither the loss nor the batch statistics.
    """

    def step(state, images, labels, indices, key):
        indices = split_rows(indices, mesh)
        mask = (indices >= 0).astype(jnp.float32)
        batch, targets = normalize(augment(key, split_rows(images[indices], mesh))), labels[indices]
        batch = split_rows(batch, mesh)

        def loss_fn(params, batch_stats):
            logits, batch_stats = model.apply_train(Weights(params, batch_stats), batch, mask)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return (losses * mask).sum() / mask.sum(), batch_stats

        gradient = optimizer.value_and_grad(loss_fn)
        (loss, batch_stats), gradients = gradient(*state.weights)
        params = state.weights.params
        updates, opt_state = optimizer.transformation.update(gradients, state.opt_state, params)
        return TrainState(Weights(optax.apply_updates(params, updates), batch_stats), opt_state), loss * mask.sum()

    return step


def make_epoch(step, *, mesh=None, compiled_loop=None):
    """Returns `epoch(state, images, labels, batches[S, B], num_steps, key) -> (state, summed loss)`; donates `state`.

    `compiled_loop` runs the whole epoch inside one program, right on accelerators; on CPU, where XLA's convolutions
    lose an order of magnitude inside loops, the loop is Python's. `None` decides by the default device.
    """
    if compiled_loop is None:
        compiled_loop = jax.default_backend() != "cpu"

    def accumulate(state, total, images, labels, batches, index, key):
        state, loss = step(state, images, labels, batches[index], jax.random.fold_in(key, index))
        return state, total + loss

    if not compiled_loop:
        one_step = jax.jit(accumulate, donate_argnums=(0, 1), out_shardings=replicated(mesh))

        def epoch(state, images, labels, batches, num_steps, key):
            total, batches = replicate(jnp.zeros(()), mesh), split_batches(batches, mesh)
            for index in range(num_steps):
                state, total = one_step(state, total, images, labels, batches, np.int32(index), key)
            return state, total

        return epoch

    def whole_epoch(state, images, labels, batches, num_steps, key):
        def body(index, carry):
            return accumulate(*carry, images, labels, batches, index, key)

        return jax.lax.fori_loop(0, num_steps, body, (state, jnp.zeros(())))

    compiled = jax.jit(whole_epoch, donate_argnums=0, out_shardings=replicated(mesh))
    return lambda state, images, labels, batches, *rest: compiled(
        state, images, labels, split_batches(batches, mesh), *rest
    )


def train(
    epoch_fn, state, images, labels, ids, labelled, key, *, epochs, batch_size, capacity, mesh=None, progress=None
):
    """Trains for `epochs` over the examples of the mask `labelled`, in an order drawn anew each epoch.

    `capacity` bounds the number of labelled examples over the whole run, so that shapes, and with them the compiled
    program, stay the same while labels are added. `mesh` is the recipe's. Returns the state and the mean loss over all
    epochs.
    """
    batch_size = min(batch_size, len(ids))
    rows = -(-capacity // batch_size) * batch_size
    count = int(labelled.sum())
    total = 0.0
    state, images, labels = replicate((state, images, labels), mesh)
    for epoch in range(epochs):
        order_key, step_key = jax.random.split(jax.random.fold_in(key, epoch))
        batches = random(order_key, ids, labelled, rows).indices.reshape(-1, batch_size)
        state, loss = epoch_fn(state, images, labels, batches, -(-count // batch_size), step_key)
        total += float(loss)
        if progress:
            progress(epoch + 1)
    return local(state, mesh), total / (epochs * count)
