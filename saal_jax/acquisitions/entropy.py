"""Entropy (Shannon 1948; Settles 2009): the predicted classes are least certain as a whole.

Cost: 1 forward pass per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable
from typing import Literal

from saal_jax.acquisitions._scored import scored
from saal_jax.scores import uncertainty
from saal_jax.tasks import Task


def entropy(apply: Callable, task: Task, *, aggregation: Literal["sum", "max", "mean"] = "sum") -> Callable:
    """The images of the largest entropy of the predicted probabilities; of boxes the `aggregation` over them."""

    def score_fn(weights, images):
        return task.uncertainty(uncertainty.entropy, apply(weights, images), aggregation)

    return scored(score_fn)
