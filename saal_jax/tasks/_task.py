"""The contract between a kind of label and everything that trains, scores and measures without knowing it."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

from saal_jax.typing import Array, PyTree


class Task(NamedTuple):
    """A kind of label, as pure functions. Outputs are what a model returns, labels what a person gives: pytrees of
    arrays with a leading axis of examples, `[B, ...]`; the first three functions are of one example.

    loss_fn: `(outputs, label) -> losses[...]` in nats; training and the ascent of a score take their mean. It may
      have attributes that raise InputError: `check_outputs(outputs, size)` of a batch, and
      `check_labels(labels, size, outputs)`, which returns the labels; `outputs` are None where they are not known.
    precise_loss_fn: the same loss in a form whose derivatives keep their digits, for gradient norms and curvature.
    pseudo_label_fn: `outputs -> label`, the model's own answer.
    augment: `(key, images, labels) -> (images, labels)` of a batch of stored images.
    measure: `(outputs, labels) -> arrays [B, ...]`, a pytree of what `summarize` needs of each example. It is compiled
      and swept over the test set like a score, so that outputs larger than that are never held.
    summarize: `that, [N, ...] in numpy -> {name: number, or list of one per class}` of a whole test set.
    headline: the name of the one that learning curves show, in percent.
    empty: `N -> labels` of which nothing is known, as arrays of numpy.
    strata: `answers -> class [k]`, for first labels that are balanced and for counts by class; None where there are
      no classes.
    regions: R, how many parts of an image are bought apart; 1 is the image as a whole. Candidates are the N x R regions
      of the images, those of an image side by side: candidate i is region `i % R` of image `i // R`.
    part: `(label, region) -> answer`, the part of one label that says what is in a region, as arrays of numpy.
    with_part: `(label, region, answer) -> label`, a new one with that part in its place. Both are None where R is 1:
      there an answer is a label.
    aggregate: `(fun, outputs, aggregation) -> [B]`, or `[B, R]` of regions: what `fun(logits[M, C]) -> [M]`, a measure
      of uncertainty, says of all distributions over C classes that the outputs of a batch hold, together, as their
      "sum", "max" or "mean" where a task leaves that open. None where outputs are such logits `[B, C]` themselves.
    pooled: `losses[...] -> []`, or `[R]`, of one example: what a score of each pixel is for each candidate. None takes
      the mean.
    least_likely_fn: `outputs -> label`, the answer that the model takes for least likely; None where there is none.
    mean_outputs: outputs of M networks, `[M, B, ...] -> [B, ...]`, of one that averages their probabilities.
    costs: `(known[N * R], labels) -> {name: number}`, what the labels so far have cost beside their number.
    prepare: `(labels, names) -> labels`, those of a data set as this task keeps them; InputError where it cannot.
    classes_of: what a class is predicted of, "image", "pixel" or "box": some methods are for one of these alone.
    """

    loss_fn: Callable
    precise_loss_fn: Callable
    pseudo_label_fn: Callable
    augment: Callable
    measure: Callable
    summarize: Callable
    headline: str
    empty: Callable
    strata: Callable | None
    regions: int = 1
    part: Callable | None = None
    with_part: Callable | None = None
    aggregate: Callable | None = None
    pooled: Callable | None = None
    least_likely_fn: Callable | None = None
    mean_outputs: Callable | None = None
    costs: Callable | None = None
    prepare: Callable | None = None
    classes_of: Literal["image", "pixel", "box"] = "image"

    def losses(self, outputs: PyTree, labels: PyTree) -> jax.Array:
        """The mean loss of each example, `[B]`."""
        return _means(jax.vmap(self.loss_fn)(outputs, labels))

    def candidate_losses(self, outputs: PyTree, labels: PyTree) -> jax.Array:
        """The loss of each candidate: `[B]`, or `[B, R]` of regions."""
        return self.by_candidate(jax.vmap(self.loss_fn)(outputs, labels))

    def uncertainty(self, fun: Callable, outputs: PyTree, aggregation: str) -> jax.Array:
        """`fun(logits[M, C]) -> [M]` of all that the outputs of a batch predict, for each candidate."""
        return self.aggregate(fun, outputs, aggregation) if self.aggregate else fun(outputs)

    def by_candidate(self, scores: jax.Array) -> jax.Array:
        """Scores of each image, or of each of its pixels, `[B, ...]`, as `[B]`, or `[B, R]` of regions."""
        return jax.vmap(self.pooled)(scores) if self.pooled and scores.ndim > 1 else _means(scores)

    def image_of(self, candidates: Array) -> Array:
        """The positions of the images of which these candidates are regions."""
        return candidates // self.regions

    def region_of(self, candidates: Array) -> Array:
        """Which region of its image each candidate is, `0..R-1`."""
        return candidates % self.regions


def _means(values):
    """Of each example, `[B]`."""
    return values.mean(axis=tuple(range(1, values.ndim))) if values.ndim > 1 else values
