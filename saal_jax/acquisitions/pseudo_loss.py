"""Pseudo loss: the loss at the model's own answer is largest, before any perturbation; what SAAL adds to is this.

Cost: 1 forward pass per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable

import jax

from saal_jax.acquisitions._scored import scored
from saal_jax.tasks import Task


def pseudo_loss(apply: Callable, task: Task) -> Callable:
    """The images of the largest loss at the pseudo label: in classification the order of least confidence."""

    def score_fn(weights, images):
        outputs = apply(weights, images)
        return task.candidate_losses(outputs, jax.vmap(task.pseudo_label_fn)(outputs))

    return scored(score_fn)
