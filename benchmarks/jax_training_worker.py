"""Trains a setting by the library's own step: `python jax_training_worker.py adam|sam SETTING.npz`."""

import functools
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax_networks import load
from serve import serve, timed

from saal_jax.engine.cpu import keep_memory
from saal_jax.optimizers import OPTIMIZERS
from saal_jax.preprocessing import crop_and_flip, normalize, unchanged
from saal_jax.tasks.classification import classification
from saal_jax.training import Ingredients, TrainState, make_epoch, make_step, supervised_loss

keep_memory()
name, setting = sys.argv[1:]
stored = np.load(setting)
model, weights = load(stored)
optimizer = OPTIMIZERS[name](learning_rate=float(stored["learning_rate"]))
images, labels = jnp.asarray(stored["images"]), jnp.asarray(stored["labels"], jnp.int32)
batches = jnp.asarray(stored["batches"], jnp.int32)
rates = {"learning": np.float32(1)}
channels = (0.5,) * images.shape[-1]


def starting() -> TrainState:
    copied = jax.tree.map(jnp.copy, weights)  # training donates its own
    return TrainState(copied, optimizer.transformation.init(copied.params))


def epoch_of(augment: Callable) -> Callable:
    prepare = functools.partial(normalize, mean=channels, std=channels)
    task = classification(int(labels.max()) + 1, augment)
    ingredients = Ingredients(model, optimizer, task, prepare, images.shape[1:])
    return make_epoch(make_step(supervised_loss(model, task), ingredients), ingredients)


def losses() -> list[float]:
    """The loss of two steps on the first batch, not augmented."""
    state, epoch, means = starting(), epoch_of(unchanged), []
    for _ in range(2):
        state, loss = epoch(state, images, labels, batches, 1, jax.random.key(0), rates)
        means.append(float(loss) / batches.shape[1])
    return means


def run(num_steps: int) -> None:
    global state
    state, loss = epoch(state, images, labels, batches, num_steps, jax.random.key(0), rates)
    jax.block_until_ready((state, loss))


state, epoch = starting(), epoch_of(crop_and_flip)
_, seconds = timed(lambda: run(1))
serve(lambda: {"seconds": timed(lambda: run(len(batches)))[1]}, seconds, losses())
