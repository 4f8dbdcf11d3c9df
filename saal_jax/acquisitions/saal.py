"""Sharpness-aware active learning (Kim et al., ICML 2023)."""

from typing import Annotated, Literal

import jax.numpy as jnp
from annotated_types import Ge

from saal_jax.scores import max_perturbed_loss, sharpness
from saal_jax.selection import kmeans_plusplus, top_k
from saal_jax.sweep import score_available

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
):
    """The images whose loss grows largest, or (`diff`) most, when the weights are perturbed adversarially for each.

    `*_diversity` spreads the choice over the range of scores by k-means++ (the published default); the others take the
    largest. `labels="true"` looks at the answers: for analysis only.
    """
    score, select = _MODES[mode]

    def score_fn(weights, chunk):
        images, true_labels = chunk

        def apply_fn(params, images):
            return apply(weights._replace(params=params), images)

        at = _LABELS[labels](lambda: apply_fn(weights.params, images), true_labels)
        return score(apply_fn, weights.params, images, at, rho=rho, adaptive=adaptive)

    def acquire(key, pool, available, k, weights, progress):
        scores = score_available(score_fn, weights, (pool.images, pool.labels), available, pool.names, progress)
        return select(key, scores, pool.ids, available, k), scores

    return acquire
