"""Gradient norm (EGL; Settles, Craven and Ray, NIPS 2007): a label would change the weights most.

Cost: 4 forward passes per example; with labels=expected 1 + 3 C.
Scales: time N, and with labels=expected N C; memory one gradient, or C, per example in flight.
"""

from collections.abc import Callable
from typing import Literal

from saal_jax.acquisitions._scored import scored
from saal_jax.errors import InputError
from saal_jax.scores import bound
from saal_jax.tasks import Task


def gradient_norm(apply: Callable, task: Task, *, labels: Literal["pseudo", "expected"] = "pseudo") -> Callable:
    """The images of the largest gradient of the loss over all weights, at the pseudo label, or in expectation over the
    labels under the model's own probabilities.
    """

    if task.regions > 1:
        raise InputError("acquisition gradient_norm is of whole images, but regions of them are bought: use saal")
    if labels == "expected" and task.classes_of != "image":
        raise InputError(
            "labels=expected is over the classes of an image, of which this task has none: use labels=pseudo"
        )

    def score_fn(weights, images):
        def apply_fn(params, images):
            return apply(weights._replace(params=params), images)

        if labels == "expected":
            return bound.expected_gradient_length(apply_fn, weights.params, images)
        at = {"loss_fn": task.precise_loss_fn, "pseudo_label_fn": task.pseudo_label_fn}
        return bound.gradient_norm(apply_fn, weights.params, images, **at)

    return scored(score_fn)
