"""Passes over the labelled part of a pool, one compiled step (CPU) or epoch (accelerator) at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from saal_jax.engine.cpu import COMPILER_OPTIONS, with_stored_operands
from saal_jax.engine.devices import local, padded, read_rows, replicate, replicated, split_batches, split_rows
from saal_jax.engine.memory import on_disk
from saal_jax.keys import named
from saal_jax.models import Model, Weights
from saal_jax.optimizers import Optimizer
from saal_jax.pool import Pool
from saal_jax.select.selectors import random_k
from saal_jax.tasks import Task
from saal_jax.typing import Array, Images, Key, PyTree


class TrainState(NamedTuple):
    """Everything that training changes. `weights` has the fields `params` and `batch_stats`, and what a recipe adds."""

    weights: Any
    opt_state: optax.OptState


class Ingredients(NamedTuple):
    """What every recipe starts from: a `Model`, an `Optimizer`, a `Task`, `normalize(images)`, the shape of an image,
    the devices that share each batch, and whether an epoch is one program (None: not on a CPU).
    """

    model: Model
    optimizer: Optimizer
    task: Task
    normalize: Callable
    image_shape: tuple
    mesh: Mesh | None = None
    compiled_loop: bool | None = None


class Batch(NamedTuple):
    """Examples of one step: stored `images[B, H, W, C]`, `labels` `[B, ...]`, and `mask[B]`, 0 for rows of padding."""

    images: jax.Array
    labels: Any
    mask: jax.Array


class Training(NamedTuple):
    """What one cycle trains on: the examples in the mask `labelled[N]` of the pool, those in `new[N]` since this cycle,
    and their `labels`, a pytree of arrays `[N, ...]` that say nothing of the others.

    `capacity` bounds the number of labelled examples over the whole run, so that shapes, and with them the compiled
    program, stay the same while labels are added. The last of `cycles` queries nothing.
    """

    pool: Pool
    labels: Any
    labelled: np.ndarray
    new: np.ndarray
    cycle: int
    cycles: int
    epochs: int
    batch_size: int
    capacity: int
    steps: int | None = None  # in all epochs together, if fewer than they have
    source: np.ndarray | None = None  # [N], examples of the pool that fill half of each batch, beside the labelled ones


class Recipe(NamedTuple):
    """How to train, as functions that are compiled once a run.

    init: `key -> TrainState`; the same key gives the same initialisation.
    train: `(key, state, training, progress) -> (state, mean loss)`; donates `state`.
    offers: what acquisitions may ask for, by name, most of them functions of `(weights, images)`: see
      `saal_jax.recipes.OFFERS`.
    mesh: the devices that share each batch; None for one device.
    """

    init: Callable
    train: Callable
    offers: dict
    mesh: Mesh | None

    @property
    def apply(self) -> Callable:
        """`(weights, images) -> outputs` for stored images, in evaluation mode: what every recipe offers."""
        return self.offers["apply"]


def supervised_loss(model: Model, task: Task) -> Callable:
    """The loss of plain supervised training: `(weights, batch, key, rates) -> (loss, batch_stats)`."""

    def loss_fn(weights, batch, key, rates):
        del rates
        outputs, batch_stats = model.outputs_train(weights, batch.images, batch.mask, key)
        losses = task.losses(outputs.logits, batch.labels)
        return (losses * batch.mask).sum() / batch.mask.sum(), batch_stats

    return loss_fn


def gather(images: Images, labels: PyTree, indices: Array, mesh: Mesh | None) -> Batch:
    """The `Batch` of the examples at `indices[B]`, where -1 is padding."""
    split = split_rows(indices, mesh)
    batch = split_rows(images[split], mesh)
    return Batch(batch, jax.tree.map(lambda array: array[indices], labels), (split >= 0).astype(jnp.float32))


def read(images: Images, labels: PyTree, indices: Array, mesh: Mesh | None) -> Batch:
    """The same by the host, of images on disk; labels and indices are numpy's."""
    mask = (indices >= 0).astype(np.float32)
    batch, labels = jax.tree.map(lambda array: read_rows(array, indices, mesh), (images, labels))
    return Batch(batch, labels, read_rows(mask, np.arange(len(mask)), mesh))


def prepared(ingredients: Ingredients, batch: Batch, key: Key) -> Batch:
    """A batch as the network sees it: augmented and normalised."""
    images, labels = ingredients.task.augment(key, batch.images, batch.labels)
    return batch._replace(images=split_rows(ingredients.normalize(images), ingredients.mesh), labels=labels)


def make_step(loss_fn: Callable, ingredients: Ingredients) -> Callable:
    """Returns `step(state, batch, key, rates) -> (state, summed loss)`, which its caller compiles.

    `loss_fn` is as `supervised_loss` makes it. Padding enters neither the loss nor the batch statistics. `rates` are
    numbers that change by epoch: `rates["learning"]` is the share of the learning rate that is left.
    """
    optimizer = ingredients.optimizer

    def step(state, batch, key, rates):
        batch = prepared(ingredients, batch, named(key, "augmentation"))
        drop_key, weights = named(key, "dropout"), state.weights

        def on_batch(params, batch_stats):
            return loss_fn(Weights(params, batch_stats), batch, drop_key, rates)

        gradient = optimizer.value_and_grad(on_batch)
        (loss, batch_stats), gradients = gradient(weights.params, weights.batch_stats)
        updates, opt_state = optimizer.transformation.update(gradients, state.opt_state, weights.params)
        updates = jax.tree.map(lambda update: rates["learning"] * update, updates)
        params = optax.apply_updates(weights.params, updates)
        return TrainState(weights._replace(params=params, batch_stats=batch_stats), opt_state), loss * batch.mask.sum()

    return step


def make_epoch(step: Callable, ingredients: Ingredients) -> Callable:
    """Returns `epoch(state, images, labels, batches, num_steps, key, rates) -> (state, summed loss)`; donates `state`.

    `batches` are indices `[S, B]`, or a pytree of such: `step` then takes the same pytree of `Batch`. With a compiled
    loop the whole epoch runs inside one program, right on accelerators; on CPU, where XLA's convolutions lose an order
    of magnitude inside loops, the loop is Python's. So it is for images on disk: where JAX computes asynchronously, the
    host reads a batch while the step before it is computed.
    """
    mesh, on_cpu = ingredients.mesh, jax.default_backend() == "cpu"
    compiled_loop = not on_cpu if ingredients.compiled_loop is None else ingredients.compiled_loop

    def accumulate(state, total, batch, index, key, rates):
        state, loss = step(state, batch, named(key, "step", index), rates)
        return state, total + loss

    def gathering(state, total, images, labels, batches, index, key, rates):
        batch = jax.tree.map(lambda rows: gather(images, labels, rows[index], mesh), batches)
        return accumulate(state, total, batch, index, key, rates)

    def compiled(fun):
        fun, options = (with_stored_operands(fun), COMPILER_OPTIONS) if on_cpu else (fun, None)
        return jax.jit(fun, donate_argnums=(0, 1), out_shardings=replicated(mesh), compiler_options=options)

    one_step, one_gathering_step = compiled(accumulate), compiled(gathering)

    @partial(jax.jit, donate_argnums=0, out_shardings=replicated(mesh))
    def compiled_epoch(state, images, labels, batches, num_steps, key, rates):
        def body(index, carry):
            state, total = carry
            return gathering(state, total, images, labels, batches, index, key, rates)

        return jax.lax.fori_loop(0, num_steps, body, (state, jnp.zeros(())))

    def loop_of_steps(state, images, labels, batches, num_steps, key, rates):
        total = replicate(jnp.zeros(()), mesh)
        for index in range(num_steps):
            state, total = one_gathering_step(state, total, images, labels, batches, np.int32(index), key, rates)
        return state, total

    def reading_loop(state, images, labels, batches, num_steps, key, rates):
        total = replicate(jnp.zeros(()), mesh)
        labels, batches = jax.device_get((labels, jax.tree.map(lambda rows: padded(rows, mesh), batches)))
        for index in range(num_steps):
            batch = jax.tree.map(lambda rows: read(images, labels, rows[index], mesh), batches)  # noqa: B023
            jax.block_until_ready(total)  # else batches would pile up where reading is faster
            state, total = one_step(state, total, batch, np.int32(index), key, rates)
        return state, total

    def epoch(state, images, labels, batches, *rest):
        split = jax.tree.map(lambda rows: split_batches(rows, mesh), batches)  # refuses what processes differ in
        if on_disk(images):
            return reading_loop(state, images, labels, batches, *rest)
        return (compiled_epoch if compiled_loop else loop_of_steps)(state, images, labels, split, *rest)

    return epoch


def make_batches(key: Key, ids: Array, mask: Array, batch_size: int, capacity: int) -> tuple[jax.Array, int]:
    """The examples of `mask[N]` in random order, as indices `[S, B]` padded with -1; and how many batches hold any."""
    batch_size = min(batch_size, len(ids))
    rows = -(-capacity // batch_size) * batch_size
    batches = random_k(key, ids, mask, rows).indices.reshape(-1, batch_size)
    return batches, -(-int(mask.sum()) // batch_size)


def make_mixed_batches(
    key: Key, ids: Array, mask: Array, source: Array, batch_size: int, capacity: int
) -> tuple[jax.Array, int]:
    """Batches of which one half are the examples of `mask[N]`, over and over in random order, and the other half those
    of `source[N]`; where the mask holds none, the first half is padding.
    """
    half, num_labelled = max(1, batch_size // 2), int(mask.sum())
    others, steps = make_batches(named(key, "source"), ids, source, half, int(source.sum()))
    size = max(len(others), -(-capacity // half)) * half
    order = np.asarray(random_k(key, ids, mask, size).indices)
    own = order[np.arange(size) % max(1, num_labelled)].reshape(-1, half)
    others, quarter = others[np.arange(len(own)) % len(others)], half // 2
    # A pair of the first row with the last, and so on, is of one domain.
    mixed = jnp.concatenate([own[:, :quarter], others, own[:, quarter:]], axis=1)
    return mixed, -(-num_labelled // half) or steps


def batches_of(key: Key, training: Training, mask: Array) -> tuple[jax.Array, int]:
    """The batches of an epoch over the examples in `mask`, beside those of the source where there is one."""
    ids, sizes = training.pool.ids, (training.batch_size, training.capacity)
    if training.source is None:
        return make_batches(key, ids, mask, *sizes)
    return make_mixed_batches(key, ids, mask, training.source, *sizes)


def train(
    epoch_fn: Callable,
    state: TrainState,
    training: Training,
    key: Key,
    *,
    rates_fn: Callable,
    mask: Array | None = None,
    mesh: Mesh | None = None,
    progress: Callable | None = None,
    after_epoch: Callable | None = None,
) -> tuple[TrainState, float]:
    """Trains for the training's epochs over its labelled examples (those in `mask`), in an order drawn anew each epoch.

    `rates_fn(done)` gives the rates of an epoch before which that share of the training is done; `after_epoch(number,
    state)` may look at the state. `mesh` is that of the ingredients. Returns the state and the mean loss over all
    epochs.
    """
    pool, mask = training.pool, training.labelled if mask is None else mask
    total, seen, steps_left = 0.0, 0, training.steps
    state, images, labels = replicate((state, pool.images, training.labels), mesh)
    for epoch in range(training.epochs):
        epoch_key = named(key, "epoch", epoch)
        batches, num_steps = batches_of(named(epoch_key, "order"), training, mask)
        if steps_left is not None:
            num_steps = min(num_steps, steps_left)
            steps_left -= num_steps
        rates = {name: np.float32(rate) for name, rate in rates_fn(epoch / training.epochs).items()}
        state, loss = epoch_fn(state, images, labels, batches, num_steps, epoch_key, rates)
        total += float(loss)
        seen += int((batches[:num_steps] >= 0).sum())
        if after_epoch:
            after_epoch(epoch + 1, state)
        if progress:
            progress(epoch + 1, training.epochs)
    return local(state, mesh), total / seen
