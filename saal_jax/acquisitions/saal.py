"""SAAL (Kim, Cho et al., ICML 2023): the loss at its pseudo label is largest after the weights ascended for it.

Cost: 4 forward passes per example.
Scales: time N, and N k for the diversity modes; memory two copies of the weights per example in flight.
"""

import math
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge, Gt, Le

from saal_jax.errors import InputError
from saal_jax.query import Acquired
from saal_jax.scores import max_perturbed_loss, sharpness
from saal_jax.selection import kmeans_plusplus, top_k

_MODES = {
    "max": (max_perturbed_loss, top_k),
    "diff": (sharpness, top_k),
    "max_diversity": (max_perturbed_loss, kmeans_plusplus),
    "diff_diversity": (sharpness, kmeans_plusplus),
}

# The label at which the loss is taken. The release names the last two and raises for them; argmin is our reading.
_LABELS = {
    "pseudo": lambda logits_fn, labels: None,
    "true": lambda logits_fn, labels: labels,
    "inverse_pseudo": lambda logits_fn, labels: jnp.argmin(logits_fn(), axis=-1),
}


def saal(
    apply,
    *,
    mode: Literal["max", "diff", "max_diversity", "diff_diversity"] = "max_diversity",
    labels: Literal["pseudo", "true", "inverse_pseudo"] = "pseudo",
    rho: Annotated[float, Ge(0)] = 0.05,
    adaptive: bool = True,
    screening: Annotated[float, Gt(0), Le(1)] = 1.0,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
):
    """The images whose loss grows largest, or (`diff`) most, when the weights are perturbed adversarially for each.

    `*_diversity` spreads the choice over the range of scores by k-means++ (the published default); the others take the
    largest. `labels="true"` looks at the answers: for analysis only. `screening` below 1 computes the clean loss of all
    images, at the cost of one forward pass, and the score of that fraction only whose clean loss is largest.
    """
    score, select = _MODES[mode]
    if screening < 1 and select is not top_k:
        raise InputError(
            f"screening leaves out what mode={mode} chooses from: use mode=max or mode=diff, or screening=1"
        )
    score_fn = score_at(apply, score, labels, rho=rho, adaptive=adaptive)

    def clean_loss(weights, chunk):
        images, true_labels = chunk
        logits = apply(weights, images)
        at = _LABELS[labels](lambda: logits, true_labels)
        at = jnp.argmax(logits, axis=-1) if at is None else at
        return optax.softmax_cross_entropy_with_integer_labels(logits, at)

    def acquire(query):
        available, k, sweep = query.available, query.k, query.sweep
        arrays = query.pool.images, query.pool.labels
        if screening < 1:
            losses = sweep(clean_loss, query.weights, arrays, available, precision=precision)
            kept = min(available.sum(), max(k, math.ceil(screening * available.sum())))
            available = available & (losses >= np.sort(losses[available])[-kept])
        scores = sweep(score_fn, query.weights, arrays, available, precision=precision)
        return Acquired(select(query.key, scores, query.pool.ids, available, k), scores)

    return acquire


def score_at(apply, score, labels, **options):
    """`score` (`max_perturbed_loss`, `sharpness`) of stored images at the labels of that mode, for a sweep over
    `(images, labels)`.
    """

    def score_fn(weights, chunk):
        images, true_labels = chunk

        def apply_fn(params, images):
            return apply(weights._replace(params=params), images)

        at = _LABELS[labels](lambda: apply_fn(weights.params, images), true_labels)
        return score(apply_fn, weights.params, images, at, **options)

    return score_fn
