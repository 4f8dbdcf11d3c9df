"""VAAL (Sinha et al., ICCV 2019): the images whose codes a discriminator takes least for those of labelled ones.

Cost: 1 forward pass of a small encoder per example, after `steps` training steps of two batches each.
Scales: training by `steps` alone, then time N; memory N numbers and two batches.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge, Gt, Le

from saal_jax.keys import named
from saal_jax.models.variational import discriminator, variational_autoencoder
from saal_jax.pool import Acquired
from saal_jax.select.selectors import random_k, top_k
from saal_jax.typing import Array, Images, Key


class _State(NamedTuple):
    autoencoder: Any
    discriminator: Any
    opt_states: tuple


def vaal(
    normalize: Callable,
    *,
    latent: Annotated[int, Ge(1), Le(4096)] = 32,
    width: Annotated[int, Ge(1), Le(4096)] = 32,
    steps: Annotated[int, Ge(1)] = 300,
    batch_size: Annotated[int, Ge(1)] = 128,
    learning_rate: Annotated[float, Gt(0)] = 5e-4,
    beta: Annotated[float, Ge(0)] = 1.0,
    adversary: Annotated[float, Ge(0)] = 1.0,
) -> Callable:
    """The images whose code is least likely that of a labelled one, by a discriminator trained anew for every query.

    A beta-VAE learns to reconstruct labelled and unlabelled images and, with weight `adversary`, to have all of their
    codes taken for labelled; the discriminator learns to distinguish them. The score is minus its logit at the mean
    code.

    The published width is 128, and the released program takes 39,000 steps on CIFAR-10, each with two updates of the
    VAE and one of the discriminator; here it is one of each.
    """
    autoencoder, judge = variational_autoencoder(latent=latent, width=width), discriminator()
    adam = optax.adam(learning_rate)

    @jax.jit
    def init(key, images):
        codes = jnp.zeros((1, latent))
        params = autoencoder.init(named(key, "autoencoder"), normalize(images)), judge.init(named(key, "judge"), codes)
        return _State(*params, tuple(map(adam.init, params)))

    def step(state, stored, key):
        both = normalize(stored)
        sides = jnp.where(jnp.arange(len(both)) < batch_size, 1.0, -1.0)

        def autoencoder_loss(params):
            reconstruction, mean, log_variance = autoencoder.reconstruct(params, both, key)
            fooled = jax.nn.softplus(-judge.apply(state.discriminator, mean))  # cross-entropy if all were labelled
            return (negative_elbo(both, reconstruction, mean, log_variance, beta) + adversary * fooled).mean()

        params, opt_state = update(autoencoder_loss, state.autoencoder, state.opt_states[0])
        codes, _ = autoencoder.encode(params, both)

        def discriminator_loss(params):
            return jax.nn.softplus(-sides * judge.apply(params, codes)).mean()

        judge_params, judge_opt_state = update(discriminator_loss, state.discriminator, state.opt_states[1])
        return _State(params, judge_params, (opt_state, judge_opt_state))

    def update(loss_fn, params, opt_state):
        updates, opt_state = adam.update(jax.grad(loss_fn)(params), opt_state)
        return optax.apply_updates(params, updates), opt_state

    one_step = jax.jit(step, donate_argnums=0)

    def score_fn(weights, images):
        mean, _ = autoencoder.encode(weights[0], normalize(images))
        return -judge.apply(weights[1], mean)  # a logit: where probabilities round to 0 or 1, it still ranks

    def acquire(query):
        images, ids, select_key = query.pool.images, query.pool.ids, named(query.key, "selection")
        if not (query.labelled.any() and query.available.any()):  # nothing to distinguish
            return Acquired(random_k(select_key, ids, query.available, query.k), np.full(len(ids), np.nan, np.float32))
        masks = {"labelled": query.labelled, "available": query.available}
        batches = [cycled(named(query.key, name), ids, mask, steps, batch_size) for name, mask in masks.items()]
        state = init(named(query.key, "initial weights"), jnp.asarray(images[:1]))
        for index, rows in enumerate(np.concatenate(batches, axis=1)):
            stored = jnp.asarray(images[rows])  # of images on disk read while the step before is computed
            state = one_step(jax.block_until_ready(state), stored, named(query.key, "step", index))
        scores = query.sweep(score_fn, (state.autoencoder, state.discriminator), images, query.available)
        return Acquired(top_k(select_key, scores, ids, query.available, query.k), scores)

    return acquire


def negative_elbo(
    images: Images, reconstruction: jax.Array, mean: jax.Array, log_variance: jax.Array, beta: float
) -> jax.Array:
    """`|x - reconstruction|^2 / 2 + beta KL(N(mean, variance) || N(0, 1))` of each image, `[B]`: eq. 1 of the paper
    for pixels of unit variance, up to a constant.

    The released program takes the mean over all pixels of the first and the sum over the batch of the second. Codes
    then say next to nothing of their images: classes of digits that no label has were found no better than at random.
    """
    error = jnp.square(images - reconstruction).sum(axis=(1, 2, 3)) / 2
    divergence = (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(axis=1) / 2
    return error + beta * divergence


def cycled(key: Key, ids: Array, mask: Array, steps: int, batch_size: int) -> np.ndarray:
    """Indices `[steps, batch_size]` that run through the examples in `mask[N]`, over and over in one random order.

    The order is drawn by id, once: the batches do not depend on the order of the pool.
    """
    order = np.asarray(random_k(key, ids, mask, len(ids)).indices)[: int(np.sum(mask))]
    return order[np.arange(steps * batch_size) % len(order)].reshape(steps, batch_size)
