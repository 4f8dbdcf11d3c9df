"""One class for each image: logits `[C]` and an integer in `0..C-1`."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saal_jax.errors import InputError
from saal_jax.preprocessing import unchanged
from saal_jax.tasks._task import Task
from saal_jax.typing import Array, PyTree

UNKNOWN = -1
HEADLINE = "test_accuracy"


def classification(
    num_classes: int, augmentation: Callable = unchanged, moves: Callable | None = None, image_shape: tuple = ()
) -> Task:
    """The task of telling `num_classes` apart; `augmentation(key, images)` leaves the class as it is."""
    del moves, image_shape

    def augment(key, images, labels):
        return augmentation(key, images), labels

    return Task(
        cross_entropy,
        cross_entropy_by_differences,
        most_likely,
        augment,
        logits_and_labels,
        lambda measured: accuracies(measured[0], measured[1], num_classes),
        headline=HEADLINE,
        empty=lambda size: np.full(size, UNKNOWN, np.int32),
        strata=lambda labels: labels,
        least_likely_fn=least_likely,
        mean_outputs=mean_logits,
    )


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """`-log softmax(logits)[label]` in nats, of `logits[C]`.

    >>> print(f"{cross_entropy(jnp.array([2.0, 1.0]), 0):.4f}")  # log(1 + exp(-1))
    0.3133
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def cross_entropy_by_differences(logits: jax.Array, label: jax.Array) -> jax.Array:
    """The same, of differences to the label's logit, whose derivative is exactly zero.

    Gradient and Hessian keep their digits where the softmax is so nearly one-hot that in float32 `1 - p` has none left.
    """
    differences = jnp.where(jnp.arange(logits.size) == label, 0, logits - logits[label])
    return jax.nn.logsumexp(differences)


def most_likely(logits: jax.Array) -> jax.Array:
    """The class of the largest logit."""
    return jnp.argmax(logits)


def least_likely(logits: jax.Array) -> jax.Array:
    """The class of the smallest logit."""
    return jnp.argmin(logits)


def mean_logits(logits: jax.Array) -> jax.Array:
    """Log of the mean of the probabilities that M networks give, of their `logits[M, ..., C]`."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def residuals(logits: jax.Array) -> jax.Array:
    """The gradient by the logits `[B, C]` of the loss at the most likely class: `softmax - onehot(argmax)`."""
    return jax.nn.softmax(logits) - jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])


def logits_and_labels(logits: Array, labels: PyTree) -> tuple[Array, PyTree]:
    """All that `accuracies` needs of each example: it computes in float64, which a device may not have."""
    return logits, labels


def accuracies(logits: Array, labels: PyTree, num_classes: int) -> dict:
    """Accuracy in percent, mean cross-entropy in nats, and accuracy by class, NaN where a class has no example."""
    from scipy.special import log_softmax

    correct = logits.argmax(1) == labels
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=num_classes)
    per_class = np.where(counts > 0, np.bincount(labels, correct, num_classes) / np.maximum(counts, 1), np.nan)
    return {
        "test_accuracy": 100 * float(correct.mean()),
        "test_loss": float(losses.mean()),
        "class_accuracies": (100 * per_class).tolist(),
    }


def check_outputs(outputs: PyTree, size: int) -> None:
    """Refuses what is not logits `[size, C]`."""
    shape: tuple = getattr(outputs, "shape", ())
    dtype = getattr(outputs, "dtype", np.dtype(int))
    if len(shape) != 2 or shape[0] != size or not shape[1] or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(
            f"apply_fn returned {described(outputs)} for a batch of {size}: it must return logits of shape [{size}, "
            "C], one floating array and nothing else"
        )


def check_labels(labels: PyTree, size: int, outputs: PyTree) -> Array:
    """Labels `[size]` as an array, after they are checked; their values where they and the logits are known."""
    labels = _integers(labels, size)
    if outputs is not None and not isinstance(labels, jax.core.Tracer):
        (low, high), num_classes = _range(labels), outputs.shape[1]
        if low < 0 or high >= num_classes:
            raise InputError(f"labels run from {low} to {high}, but the model has the classes 0..{num_classes - 1}")
    return labels


for _loss_fn in (cross_entropy, cross_entropy_by_differences):
    vars(_loss_fn).update(check_outputs=check_outputs, check_labels=check_labels)


def _integers(labels, size):
    if not isinstance(labels, jax.Array):
        with contextlib.suppress(TypeError, ValueError):  # a ragged list stays one
            labels = np.asarray(labels)
    if getattr(labels, "shape", None) != (size,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels are {described(labels)} for {size} images: pass integers of shape [{size}], or None for pseudo "
            "labels"
        )
    return labels


def _range(labels):
    """The least and the largest of known labels."""
    # In numpy: inside a caller's transformation JAX would trace them. Of labels spread over processes, each has a part.
    shards = [shard.data for shard in labels.addressable_shards] if isinstance(labels, jax.Array) else [labels]
    values = [np.asarray(shard) for shard in shards]
    return min(np.min(part) for part in values), max(np.max(part) for part in values)


def described(value: Any) -> str:
    """Type and shape of a value, for a message."""
    is_array = isinstance(value, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)
    return f"{value.dtype}{list(value.shape)}" if is_array else type(value).__name__
