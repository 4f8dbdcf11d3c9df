"""Scores a setting in JAX, once per line on standard input: `python jax_worker.py ours|naive SETTING.npz`."""

import sys

import jax
import numpy as np
import optax
from jax_networks import load
from serve import serve, timed

from saal_jax import max_perturbed_loss, score_pool
from saal_jax.models import Weights
from saal_jax.perturbation import ascend

variant, setting = sys.argv[1:]
stored = np.load(setting)
model, weights = load(stored)
images = stored["images"]


def ours(weights: Weights, images: jax.Array) -> jax.Array:
    return max_perturbed_loss(lambda p, x: model.apply(weights._replace(params=p), x), weights.params, images)


def naive(weights: Weights, images: jax.Array) -> jax.Array:
    def loss_fn(params, image, label=None):
        logits = model.apply(weights._replace(params=params), image[None])[0]
        label = logits.argmax() if label is None else label
        return optax.softmax_cross_entropy_with_integer_labels(logits, label), label

    def score(image):
        (_, label), gradients = jax.value_and_grad(loss_fn, has_aux=True)(weights.params, image)
        return loss_fn(ascend(weights.params, gradients, 0.05, adaptive=True), image, label)[0]

    return jax.vmap(score)(images)


def run() -> np.ndarray:
    return score_pool({"ours": ours, "naive": naive}[variant], weights, images)


scores, seconds = timed(run)
serve(lambda: {"seconds": timed(run)[1]}, seconds, scores.tolist())
