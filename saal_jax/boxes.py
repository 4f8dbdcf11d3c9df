"""Boxes around objects: as labels, compared with each other, and the best of those that overlap."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.errors import InputError
from saal_jax.typing import Array

PADDING = -1  # the class of a row that is no box


class Boxes(NamedTuple):
    """The objects of an image, or of many: `K` rows for each, those of no object with class -1.

    corners: float32 `[..., K, 4]`, x0, y0, x1, y1 as shares of the image's width and height.
    classes: int32 `[..., K]`, -1 is padding.
    crowd: bool `[..., K]`, a group of objects (COCO's `iscrowd`): not trained on, counted neither right nor wrong.
    """

    corners: Array
    classes: Array
    crowd: Array


class Detections(NamedTuple):
    """What a detector says of an image, or of many: at most `D` boxes for each, rows of none with class -1.

    corners: floating `[..., D, 4]`, as those of `Boxes`.
    classes: integers `[..., D]`.
    scores: floating `[..., D]`, higher is surer.
    """

    corners: Array
    classes: Array
    scores: Array


def padded(boxes: Boxes, size: int) -> Boxes:
    """The boxes, in arrays of numpy with `size` rows for each image.

    Raises:
      InputError: more rows than that.

    >>> one = Boxes(np.float32([[0, 0, 1, 1]]), np.int32([2]), np.array([False]))
    >>> padded(one, 3).classes
    array([ 2, -1, -1], dtype=int32)
    """
    rows = boxes.classes.shape[-1]
    if rows > size:
        raise InputError(f"{rows} boxes for an image do not fit into {size} rows: pad to {rows} or more")
    before = [(0, 0)] * (boxes.classes.ndim - 1) + [(0, size - rows)]
    return Boxes(
        np.pad(np.asarray(boxes.corners, np.float32), [*before, (0, 0)]),
        np.pad(np.asarray(boxes.classes, np.int32), before, constant_values=PADDING),
        np.pad(np.asarray(boxes.crowd, bool), before),
    )


def intersections_over_unions(first: Array, second: Array) -> jax.Array:
    """The share of their union that two boxes have in common, `[N, M]` of corners `[N, 4]` and `[M, 4]`; 0 of two
    without area.

    >>> box = jnp.array([[0.0, 0.0, 1.0, 1.0]])
    >>> print(intersections_over_unions(box, jnp.array([[0.0, 0.0, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]])))
    [[0.5  0.25]]
    """
    first, second = jnp.asarray(first)[:, None], jnp.asarray(second)[None]
    sides = jnp.minimum(first[..., 2:], second[..., 2:]) - jnp.maximum(first[..., :2], second[..., :2])
    common = jnp.maximum(sides, 0).prod(-1)
    union = _areas(first) + _areas(second) - common
    return jnp.where(union > 0, common / jnp.where(union > 0, union, 1), 0)


def suppressed(corners: Array, scores: Array, classes: Array, threshold: float | jax.Array) -> jax.Array:
    """Non-maximum suppression: which of `K` boxes to keep, bool `[K]`.

    From the highest score down (of equal ones the first), a box is kept unless its intersection over union with a kept
    one of its class exceeds `threshold`. Padding is not kept. Jit- and vmap-able: all shapes are fixed.

    Args:
      corners: floating `[K, 4]`.
      scores: floating `[K]`.
      classes: integers `[K]`, -1 is padding.
      threshold: from 0 to 1.

    >>> corners = jnp.array([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9], [0.0, 0.0, 1.0, 0.9]])
    >>> suppressed(corners, jnp.array([0.6, 0.9, 0.3]), jnp.array([0, 0, 1]), 0.5)
    Array([False,  True,  True], dtype=bool)
    """
    order = jnp.argsort(-jnp.asarray(scores), stable=True)
    corners, classes = jnp.asarray(corners)[order], jnp.asarray(classes)[order]
    same_class = classes[:, None] == classes[None]
    overlaps = (intersections_over_unions(corners, corners) > threshold) & same_class
    places = jnp.arange(len(order))

    def after(place, keep):
        """Without the boxes that come behind a kept one and overlap it."""
        return keep & ~(keep[place] & overlaps[place] & (places > place))

    keep = jax.lax.fori_loop(0, len(order), after, classes != PADDING)
    return jnp.zeros_like(keep).at[order].set(keep)


def _areas(corners):
    return jnp.maximum(corners[..., 2:] - corners[..., :2], 0).prod(-1)
