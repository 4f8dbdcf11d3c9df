"""Scores a setting in JAX, once per line on standard input: `python jax_worker.py ours|naive SETTING.npz`."""

import sys

import jax
import numpy as np
from jax_networks import load, load_task
from serve import serve, timed

from saal_jax import max_perturbed_loss, score_pool
from saal_jax.models import Weights
from saal_jax.perturbation import ascend

variant, setting = sys.argv[1:]
stored = np.load(setting)
model, weights = load(stored)
task = load_task(stored)
images = stored["images"]


def ours(weights: Weights, images: jax.Array) -> jax.Array:
    options = {"loss_fn": task.loss_fn, "pseudo_label_fn": task.pseudo_label_fn}
    apply_fn = lambda params, images: model.apply(weights._replace(params=params), images)  # noqa: E731
    return task.by_candidate(max_perturbed_loss(apply_fn, weights.params, images, **options))


def naive(weights: Weights, images: jax.Array) -> jax.Array:
    def loss_fn(params, image, label=None):
        outputs = model.apply(weights._replace(params=params), image[None])
        outputs = jax.tree.map(lambda leaf: leaf[0], outputs)
        label = task.pseudo_label_fn(jax.lax.stop_gradient(outputs)) if label is None else label
        return task.loss_fn(outputs, label).mean(), label

    def score(image):
        (_, label), gradients = jax.value_and_grad(loss_fn, has_aux=True)(weights.params, image)
        return loss_fn(ascend(weights.params, gradients, 0.05, adaptive=True), image, label)[0]

    return jax.vmap(score)(images)


def run() -> np.ndarray:
    return score_pool({"ours": ours, "naive": naive}[variant], weights, images)


scores, seconds = timed(run)
serve(lambda: {"seconds": timed(run)[1]}, seconds, scores.tolist())
