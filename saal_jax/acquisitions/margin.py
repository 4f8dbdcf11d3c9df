"""Margin (Scheffer et al., IDA 2001): the two most probable classes are closest.

Cost: 1 forward pass per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable
from typing import Literal

from saal_jax.acquisitions._scored import scored
from saal_jax.scores import uncertainty
from saal_jax.tasks import Task


def margin(apply: Callable, task: Task, *, aggregation: Literal["sum", "max", "mean"] = "sum") -> Callable:
    """The images of the smallest difference between the two largest probabilities; of boxes the `aggregation` over
    them.
    """

    def score_fn(weights, images):
        return task.uncertainty(uncertainty.margin, apply(weights, images), aggregation)

    return scored(score_fn)
