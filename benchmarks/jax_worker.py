"""Scores a setting in JAX, once per line on standard input: `python jax_worker.py ours|naive SETTING.npz`."""

import json
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saal_jax import max_perturbed_loss, score_pool
from saal_jax.models import Weights, resnet18, small_cnn
from saal_jax.perturbation import ascend

variant, setting = sys.argv[1:]
stored = np.load(setting)
model = {"resnet18": resnet18, "small_cnn": small_cnn}[str(stored["model"])](10, width=int(stored["width"]))
weights = Weights({}, {})
for name in stored.files:
    if "/" in name:
        part, *path, last = name.split("/")
        tree = weights.params if part == "params" else weights.batch_stats
        for key in path:
            tree = tree.setdefault(key, {})
        tree[last] = jnp.asarray(stored[name])
images = stored["images"]


def ours(weights, images):
    return max_perturbed_loss(lambda p, x: model.apply(weights._replace(params=p), x), weights.params, images)


def naive(weights, images):
    def loss_fn(params, image, label=None):
        logits = model.apply(weights._replace(params=params), image[None])[0]
        label = logits.argmax() if label is None else label
        return optax.softmax_cross_entropy_with_integer_labels(logits, label), label

    def score(image):
        (_, label), gradients = jax.value_and_grad(loss_fn, has_aux=True)(weights.params, image)
        return loss_fn(ascend(weights.params, gradients, 0.05, adaptive=True), image, label)[0]

    return jax.vmap(score)(images)


def timed():
    start = time.perf_counter()
    scores = score_pool({"ours": ours, "naive": naive}[variant], weights, images)
    return scores, time.perf_counter() - start


scores, seconds = timed()
print(json.dumps({"scores": scores.tolist(), "first_seconds": seconds}), flush=True)
for _ in sys.stdin:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": timed()[1], "peak_bytes": peak}), flush=True)
