"""Entropy (Shannon 1948; Settles 2009): the predicted classes are least certain as a whole.

Cost: 1 forward pass per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable

from saal_jax.acquisitions._scored import scored
from saal_jax.scores import uncertainty


def entropy(apply: Callable) -> Callable:
    """The images of the largest entropy of the predicted probabilities."""

    def score_fn(weights, images):
        return uncertainty.entropy(apply(weights, images))

    return scored(score_fn)
