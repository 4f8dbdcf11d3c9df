"""SAAL (Kim, Cho et al., ICML 2023): the loss at its pseudo label is largest after the weights ascended for it.

Cost: 4 forward passes per example.
Scales: time N, and N k for the diversity modes; memory two copies of the weights per example in flight.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import numpy as np
from annotated_types import Ge, Gt, Le

from saal_jax.errors import InputError
from saal_jax.keys import named
from saal_jax.labels import nothing_known, tell
from saal_jax.pool import Acquired, any_region
from saal_jax.scores import max_perturbed_loss, sharpness
from saal_jax.select.selectors import kmeans_plusplus, top_k
from saal_jax.tasks import Task
from saal_jax.typing import PseudoLabelFn, ScoreFn

_MODES: dict[str, tuple[Callable, Callable]] = {
    "max": (max_perturbed_loss, top_k),
    "diff": (sharpness, top_k),
    "max_diversity": (max_perturbed_loss, kmeans_plusplus),
    "diff_diversity": (sharpness, kmeans_plusplus),
}


def saal(
    apply: Callable,
    task: Task,
    *,
    mode: Literal["max", "diff", "max_diversity", "diff_diversity"] = "max_diversity",
    labels: Literal["pseudo", "true", "inverse_pseudo"] = "pseudo",
    rho: Annotated[float, Ge(0)] = 0.05,
    adaptive: bool = True,
    screening: Annotated[float, Gt(0), Le(1)] = 1.0,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
) -> Callable:
    """The images whose loss grows largest, or (`diff`) most, when the weights are perturbed adversarially for each.

    `*_diversity` spreads the choice over the range of scores by k-means++ (the published default); the others take the
    largest. `labels` is where the loss is taken: at the model's own answer, at the true one, which only a simulation
    knows (for analysis), or at the least likely class (the release names the last two and raises for them; the least
    likely is our reading of `inverse_pseudo`). `screening` below 1 computes the clean loss of all images, at the cost
    of one forward pass, and the score of that fraction only whose clean loss is largest.
    """
    options: dict[str, Any] = {"rho": rho, "adaptive": adaptive, "screening": screening, "precision": precision}
    return at_labels(choice(apply, task, pseudo_label_fn_of(labels, task), mode=mode, **options), labels, task)


def choice(
    apply: Callable,
    task: Task,
    pseudo_label_fn: PseudoLabelFn,
    *,
    mode: str,
    rho: float | jax.Array,
    adaptive: bool,
    precision: str,
    screening: float = 1.0,
) -> Callable:
    """Returns `choose(query, answers)`, with the labels at which the loss is taken, or None for pseudo labels."""
    score, select = _MODES[mode]
    if screening < 1 and select is not top_k:
        raise InputError(
            f"screening leaves out what mode={mode} chooses from: use mode=max or mode=diff, or screening=1"
        )
    at = {"loss_fn": task.loss_fn, "pseudo_label_fn": pseudo_label_fn}
    of_images = score_at(apply, score, rho=rho, adaptive=adaptive, **at)

    def score_fn(weights, chunk):
        return task.by_candidate(of_images(weights, chunk))

    def clean_loss(weights, chunk):
        images, known = chunk
        outputs = apply(weights, images)
        labels = jax.vmap(pseudo_label_fn)(outputs) if known is None else known
        return task.candidate_losses(outputs, labels)

    def choose(query, answers):
        available, k, sweep = query.available, query.k, query.sweep
        arrays = query.pool.images, answers
        if screening < 1:
            losses = sweep(clean_loss, query.weights, arrays, available, precision=precision)
            kept = min(available.sum(), max(k, math.ceil(screening * available.sum())))
            available = available & (losses >= np.sort(losses[available])[-kept])
        scores = sweep(score_fn, query.weights, arrays, available, precision=precision)
        return Acquired(select(named(query.key, "selection"), scores, query.ids, available, k), scores)

    return choose


def pseudo_label_fn_of(labels: Any, task: Task) -> PseudoLabelFn:
    """Where the loss is taken that is not taken at a true label. Raises InputError where the task has no such."""
    pseudo_label_fn = task.least_likely_fn if labels == "inverse_pseudo" else task.pseudo_label_fn
    if pseudo_label_fn is None:
        raise InputError(f"labels={labels}: no answer of this task is the least likely; use labels=pseudo")
    return pseudo_label_fn


def at_labels(choose: Callable, labels: Any, task: Task) -> Callable:
    """The acquisition `choose(query, answers)`, whose answers are None, or true ones where `labels` is `true`."""
    if labels != "true":
        return lambda query: choose(query, None)

    def acquire(query, oracle):
        size = len(query.pool.ids)
        # Of an image all regions: where some are void, the loss of the others counts for more.
        positions = np.flatnonzero(np.repeat(any_region(query.available, size), task.regions))
        unknown = nothing_known(task, size)
        return choose(query, tell(unknown, positions, oracle(positions), task).values)

    return acquire


def score_at(apply: Callable, score: Callable, **options: Any) -> ScoreFn:
    """`score` (`max_perturbed_loss`, `sharpness`) of stored images, for a sweep over `(images, labels or None)`."""

    def score_fn(weights, chunk):
        images, labels = chunk

        def apply_fn(params, images):
            return apply(weights._replace(params=params), images)

        return score(apply_fn, weights.params, images, labels, **options)

    return score_fn
