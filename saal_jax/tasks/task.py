"""The contract between a kind of label and everything that trains, scores and measures without knowing it."""

from collections.abc import Callable
from typing import NamedTuple

import jax


class Task(NamedTuple):
    """A kind of label, as pure functions. Outputs are what a model returns, labels what a person gives: pytrees of
    arrays with a leading axis of examples, `[B, ...]`; the first three functions are of one example.

    loss_fn: `(outputs, label) -> losses[...]` in nats; training and the ascent of a score take their mean. It may
      have attributes that raise InputError: `check_outputs(outputs, size)` of a batch, and
      `check_labels(labels, size, outputs)`, which returns the labels; `outputs` are None where they are not known.
    precise_loss_fn: the same loss in a form whose derivatives keep their digits, for gradient norms and curvature.
    pseudo_label_fn: `outputs -> label`, the model's own answer.
    augment: `(key, images, labels) -> (images, labels)` of a batch of stored images.
    measure: `(outputs, labels) -> {name: number, or list of one per class}` of a whole test set, on the host.
    headline: the name of the one that learning curves show.
    empty: `N -> labels` of which nothing is known, as arrays of numpy.
    strata: `labels -> class [N]`, for first labels that are balanced and for counts by class; None where there is none.
    """

    loss_fn: Callable
    precise_loss_fn: Callable
    pseudo_label_fn: Callable
    augment: Callable
    measure: Callable
    headline: str
    empty: Callable
    strata: Callable | None

    def losses(self, outputs, labels) -> jax.Array:
        """The mean loss of each example, `[B]`."""
        losses = jax.vmap(self.loss_fn)(outputs, labels)
        return losses.mean(axis=tuple(range(1, losses.ndim))) if losses.ndim > 1 else losses
