"""Margin (Scheffer et al., IDA 2001): the two most probable classes are closest.

Cost: 1 forward pass per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable

from saal_jax.acquisitions._scored import scored
from saal_jax.scores import uncertainty


def margin(apply: Callable) -> Callable:
    """The images of the smallest difference between the two largest probabilities."""

    def score_fn(weights, images):
        return uncertainty.margin(apply(weights, images))

    return scored(score_fn)
