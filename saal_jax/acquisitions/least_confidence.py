"""Least confidence (Lewis and Gale, SIGIR 1994): the largest probability is smallest.

Cost: 1 forward pass per example.
Scales: time N log N, or N k for `kmeans_plusplus`; memory N.
"""

from collections.abc import Callable
from typing import Literal

from saal_jax.acquisitions._scored import scored
from saal_jax.scores import uncertainty
from saal_jax.select import selectors
from saal_jax.tasks import Task


def least_confidence(
    apply: Callable,
    task: Task,
    *,
    select: Literal["top_k", "kmeans_plusplus"] = "top_k",
    aggregation: Literal["sum", "max", "mean"] = "sum",
) -> Callable:
    """The images of the smallest largest probability; of boxes the `aggregation` over them.

    `select="kmeans_plusplus"` spreads the choice over the range of that score, as SAAL does over its own: what is left
    of SAAL without its sharpness.
    """

    def score_fn(weights, images):
        return task.uncertainty(uncertainty.least_confidence, apply(weights, images), aggregation)

    return scored(score_fn, getattr(selectors, select))
