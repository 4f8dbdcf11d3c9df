"""A class for each pixel. Outputs are logits `[H, W, C]`, labels uint8 `[H, W]`, 255 where nothing is known (void).

Images are bought as a whole, or by the regions of a fixed grid. What is published of SAAL for segmentation is its
abstract: that one ascent for the image gives a map of losses, pooled to regions, is our reading.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge, Le

from saal_jax.errors import InputError
from saal_jax.moves import VOID, drawn_and_moved, moved_masks
from saal_jax.tasks._task import Task
from saal_jax.tasks.classification import described, least_likely, mean_logits
from saal_jax.typing import Array, PyTree

HEADLINE = "test_miou"

Parts = Annotated[int, Ge(1), Le(1000)]


def segmentation(
    num_classes: int,
    augmentation: Callable,
    moves: Callable | None,
    image_shape: tuple,
    *,
    rows: Parts = 1,
    columns: Parts = 1,
) -> Task:
    """The task of telling `num_classes` apart in every pixel of images of a shape.

    What is bought is one of `rows` x `columns` regions of an image, all of one size; with 1 x 1 the image. Region r is
    in row `r // columns`. Raises InputError where the image cannot be cut so, or there are more than 255 classes.
    """
    del augmentation
    (height, width), grid = image_shape[:2], (rows, columns)
    if num_classes > VOID:
        raise InputError(f"{num_classes} classes: labels of pixels can tell at most {VOID} apart, and void")
    if height % rows or width % columns:
        raise InputError(
            f"images of {height} x {width} pixels cannot be cut into {rows} rows and {columns} columns of one size: "
            "choose divisors, or another image_size"
        )
    size = height // rows, width // columns

    def region_of(region):
        row, column = divmod(int(region), columns)
        return np.s_[row * size[0] : (row + 1) * size[0], column * size[1] : (column + 1) * size[1]]

    def with_part(label, region, answer):
        label = label.copy()
        label[region_of(region)] = answer
        return label

    def augment(key, images, labels):
        each, images = drawn_and_moved(moves, key, images, "pixels")
        return images, moved_masks(labels, each)

    def aggregate(fun, outputs, aggregation):
        del aggregation  # the mean over the pixels, whatever else is asked for: each counts alike
        values = fun(outputs.reshape(-1, outputs.shape[-1]))
        values = values.reshape(*outputs.shape[:3], *values.shape[1:])
        return jax.vmap(lambda values: pooled(values, grid))(values)

    def costs(known, labels):
        pixels = int(known.sum()) * size[0] * size[1]
        return {"num_pixels": pixels, "num_void_pixels": pixels - int((labels != VOID).sum())}

    def prepare(labels, names):
        if labels.shape[1:] != (height, width):
            raise InputError(f"labels of {labels.shape[1:]} pixels do not fit images of {height} x {width}")
        wrong = (((labels < 0) | (labels >= num_classes)) & (labels != VOID)).reshape(len(labels), -1)
        if wrong.any():
            first = int(wrong.any(1).argmax())
            value = labels[first].ravel()[wrong[first].argmax()]
            raise InputError(f"label {value} in the mask of {names[first]} is none of 0..{num_classes - 1} or {VOID}")
        return labels.astype(np.uint8)

    return Task(
        loss_fn,
        loss_fn,
        most_likely,
        augment,
        confusion,
        lambda matrices: summary(np.asarray(matrices, np.int64).sum(0)),
        headline=HEADLINE,
        empty=lambda number: np.full((number, height, width), VOID, np.uint8),
        strata=None,
        regions=rows * columns,
        part=(lambda label, region: label[region_of(region)]) if rows * columns > 1 else None,
        with_part=with_part if rows * columns > 1 else None,
        aggregate=aggregate,
        pooled=lambda values: pooled(values, grid),
        least_likely_fn=lambda outputs: jax.vmap(jax.vmap(least_likely))(outputs).astype(jnp.uint8),
        mean_outputs=mean_logits,
        costs=costs,
        prepare=prepare,
        classes_of="pixel",
    )


def loss_fn(outputs: jax.Array, label: jax.Array) -> jax.Array:
    """The cross-entropy in nats of each pixel, `[H, W]`, 0 where the label is void; the others are multiplied by the
    number of all pixels over that of theirs, so that the mean of the result is the mean over the pixels that are known.
    """
    known = label != VOID
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.where(known, label, 0).astype(jnp.int32))
    return jnp.where(known, losses, 0) * (known.size / jnp.maximum(known.sum(), 1))


def most_likely(outputs: jax.Array) -> jax.Array:
    """The class of the largest logit of each pixel, uint8 `[H, W]`."""
    return outputs.argmax(-1).astype(jnp.uint8)


def pooled(values: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """The means of `values[H, W, ...]` over the regions of a `grid` (rows, columns), `[R, ...]`; of one without the R.

    >>> print(pooled(jnp.arange(16.0).reshape(4, 4), (2, 1)))
    [ 3.5 11.5]
    """
    rows, columns = grid
    height, width = values.shape[:2]
    parts = values.reshape(rows, height // rows, columns, width // columns, *values.shape[2:]).mean((1, 3))
    return parts[0, 0] if grid == (1, 1) else parts.reshape(rows * columns, *values.shape[2:])


def confusion(outputs: Array, labels: Array) -> jax.Array:
    """How many pixels of each true class were taken for each class, int32 `[B, C, C]`; void ones are left out."""
    classes = outputs.shape[-1]

    def one(outputs, label):
        pairs = jnp.where(label == VOID, classes**2, label.astype(jnp.int32) * classes + outputs.argmax(-1))
        return jnp.zeros(classes**2, jnp.int32).at[pairs.ravel()].add(1, mode="drop").reshape(classes, classes)

    return jax.vmap(one)(outputs, labels)


def summary(matrix: np.ndarray) -> dict:
    """Intersection over union by class (NaN where a class is neither there nor predicted), their mean, and the share of
    the pixels that are right, in percent, of a confusion matrix `[C, C]` of a whole test set.

    >>> summary(np.array([[3, 1], [0, 4]]))
    {'test_miou': 77.5, 'pixel_accuracy': 87.5, 'class_iou': [75.0, 80.0]}
    """
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    by_class = np.where(union > 0, 100 * right / np.maximum(union, 1), np.nan)
    known = matrix.sum()
    return {
        "test_miou": float(np.nanmean(by_class)) if known else float("nan"),
        "pixel_accuracy": float(100 * right.sum() / known) if known else float("nan"),
        "class_iou": by_class.tolist(),
    }


def check_outputs(outputs: PyTree, size: int) -> None:
    """Refuses what is not logits `[size, H, W, C]`."""
    shape: tuple = getattr(outputs, "shape", ())
    if len(shape) != 4 or shape[0] != size:
        raise InputError(
            f"the model returned {described(outputs)} for a batch of {size}: for pixels it must return logits [{size}, "
            "H, W, C]"
        )


def check_labels(labels: PyTree, size: int, outputs: PyTree) -> PyTree:
    """The labels, which must be integers `[size, H, W]` of the size of the outputs."""
    shape = (size, *outputs.shape[1:3]) if outputs is not None else (size,)
    of_labels: tuple = getattr(labels, "shape", ())
    if of_labels[: len(shape)] != shape or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"labels are {described(labels)}: pass integers {list(shape)}, or None for pseudo labels")
    return labels


vars(loss_fn).update(check_outputs=check_outputs, check_labels=check_labels)
