"""Gradient norm (EGL; Settles, Craven and Ray, NIPS 2007): a label would change the weights most.

Cost: 4 forward passes per example; with labels=expected 1 + 3 C.
Scales: time N, and with labels=expected N C; memory one gradient, or C, per example in flight.
"""

from typing import Literal

from saal_jax import bound
from saal_jax.acquisitions._scored import scored

_LABELS = {"pseudo": bound.gradient_norm, "expected": bound.expected_gradient_length}


def gradient_norm(apply, *, labels: Literal["pseudo", "expected"] = "pseudo"):
    """The images of the largest gradient of the loss over all weights, at the pseudo label, or in expectation over the
    labels under the model's own probabilities.
    """

    def score_fn(weights, images):
        def apply_fn(params, images):
            return apply(weights._replace(params=params), images)

        return _LABELS[labels](apply_fn, weights.params, images)

    return scored(score_fn)
