"""Objects in boxes, by the peaks of a heat map for each class ("Objects as points": Zhou, Wang and Kraehenbuehl 2019).

Labels are `saal_jax.boxes.Boxes`, outputs `saal_jax.models.center_net.Cells`, a grid of h x w cells. What is published
of SAAL for detection is its abstract: that the loss is taken at the decoded boxes is our reading.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le

from saal_jax.boxes import PADDING, Boxes, Detections, padded, suppressed
from saal_jax.errors import InputError
from saal_jax.moves import drawn_and_moved, moved_corners
from saal_jax.tasks._task import Task
from saal_jax.tasks.classification import described
from saal_jax.typing import PyTree

HEADLINE = "test_map50"

_MOST_DETECTIONS = 100  # of an image, as COCO counts
_LEAST_SCORE = 0.05  # of a box that counts among those of which one may be uncertain, as in PPAL (CVPR 2024)
_SIZE_WEIGHT = 0.1  # of the loss of width and height, as in CenterNet
_ROUNDING = 1e-3  # cells: from boxes decoded of the same outputs, differences are rounding, their gradients chance
_SPREAD = 0.54 / 6  # of a box's side, the standard deviation of its peak (TTFNet, AAAI 2020)

# Of values that are 0 where there is no box, and how many there are.
_AGGREGATES: dict[str, Callable] = {
    "sum": lambda values, count: values.sum(),
    "max": lambda values, count: values.max(),
    "mean": lambda values, count: values.sum() / count,
}


def detection(
    num_classes: int,
    augmentation: Callable,
    moves: Callable | None,
    image_shape: tuple,
    *,
    max_boxes: Annotated[int, Ge(1), Le(1000)] = 100,
    threshold: Annotated[float, Ge(0), Le(1)] = 0.3,
    overlap: Annotated[float, Ge(0), Le(1)] = 0.5,
) -> Task:
    """The task of finding the objects of `num_classes` in images of a shape.

    A label has `max_boxes` rows. The model's own answer are the boxes whose score is above `threshold`, of those of a
    class that overlap more than `overlap` the best; where there is none, the loss is that of the background alone.
    """
    del augmentation
    height, width = image_shape[:2]

    def pseudo_label_fn(outputs):
        detected = decoded(jax.lax.stop_gradient(outputs), max(max_boxes, _MOST_DETECTIONS), overlap)
        detected = jax.tree.map(lambda array: array[:max_boxes], detected)
        classes = jnp.where(detected.scores > threshold, detected.classes, PADDING)
        rows = max_boxes - len(classes)
        classes = jnp.pad(classes, (0, rows), constant_values=PADDING)
        return Boxes(jnp.pad(detected.corners, ((0, rows), (0, 0))), classes, jnp.zeros(max_boxes, bool))

    def augment(key, images, labels):
        each, images = drawn_and_moved(moves, key, images, "boxes")
        return images, _within(labels._replace(corners=moved_corners(labels.corners, each, height, width)))

    def measure(outputs, labels):
        return jax.vmap(lambda outputs: decoded(outputs, _MOST_DETECTIONS, overlap))(outputs), labels

    def aggregate(fun, outputs, aggregation):
        return jax.vmap(lambda outputs: _aggregated(fun, outputs, overlap, aggregation))(outputs)

    def prepare(labels, names):
        counts = (labels.classes != PADDING).sum(1)
        if counts.max(initial=0) > max_boxes:
            most = int(counts.argmax())
            raise InputError(
                f"image {names[most]} has {counts[most]} boxes, but max_boxes={max_boxes} of a label: raise max_boxes"
            )
        rows = min(max_boxes, labels.classes.shape[1])
        order = np.argsort(labels.classes == PADDING, axis=1, kind="stable")[:, :rows]
        return padded(jax.tree.map(lambda array: array[np.arange(len(order))[:, None], order], labels), max_boxes)

    return Task(
        loss_fn,
        loss_fn,
        pseudo_label_fn,
        augment,
        measure,
        lambda measured: _summary(measured[0], measured[1], num_classes),
        headline=HEADLINE,
        empty=lambda size: _no_boxes(size, max_boxes),
        strata=None,
        aggregate=aggregate,
        mean_outputs=_mean_outputs,
        costs=lambda known, labels: {"num_boxes": int((labels.classes[known] != PADDING).sum())},
        prepare=prepare,
        classes_of="box",
    )


def loss_fn(outputs: PyTree, label: Boxes) -> jax.Array:
    """The focal loss of the heat map and the distance of the boxes, by the number of boxes: one number in nats.

    With p the probabilities of the map and t its targets, 1 at the cell of a box's centre and a Gaussian around it, the
    focal loss is `-(1 - p)^2 log p` where t is 1 and `-(1 - t)^4 p^2 log(1 - p)` elsewhere (CenterNet, eq. 1); in
    a crowd of the class it is 0 there. The distance of a box is that of its centre plus a tenth of that of its size, in
    cells, where of each difference what is over a thousandth of a cell counts. All is divided by `max(1, boxes)`.
    """
    there = (label.classes != PADDING) & ~label.crowd
    count = jnp.maximum(there.sum(), 1)
    centres, sizes = _in_cells(label.corners, outputs.heat.shape[:2])
    cells = jnp.clip(jnp.floor(centres), 0, jnp.array([outputs.heat.shape[1::-1]]) - 1).astype(jnp.int32)
    targets = _heat(cells, sizes, jnp.where(there, label.classes, PADDING), outputs.heat.shape)
    log_p, log_not_p = jax.nn.log_sigmoid(outputs.heat), jax.nn.log_sigmoid(-outputs.heat)
    at_peak = -jnp.square(jnp.exp(log_not_p)) * log_p
    elsewhere = -((1 - targets) ** 4) * jnp.square(jnp.exp(log_p)) * log_not_p
    elsewhere = jnp.where(_in_crowds(label, outputs.heat.shape), 0, elsewhere)
    focal = jnp.where(targets == 1, at_peak, elsewhere).sum()
    predicted = outputs.boxes[cells[:, 1], cells[:, 0]] * _units(outputs)
    differences = jnp.abs(predicted - jnp.concatenate([centres - cells - 0.5, sizes], axis=1))
    distances = jnp.maximum(differences - _ROUNDING, 0).reshape(-1, 2, 2).sum(2)
    by_box = distances[:, 0] + _SIZE_WEIGHT * distances[:, 1]
    return (focal + jnp.where(there, by_box, 0).sum()) / count


def decoded(outputs: PyTree, most: int, overlap: float) -> Detections:
    """The boxes of one example at the peaks of its heat map: cells that no neighbour exceeds, at most `most`."""
    height, width, num_classes = outputs.heat.shape
    scores = jax.nn.sigmoid(outputs.heat)
    around = jax.lax.reduce_window(scores, -jnp.inf, jax.lax.max, (3, 3, 1), (1, 1, 1), "SAME")
    scores, places = jax.lax.top_k(jnp.where(scores == around, scores, 0).ravel(), min(most, scores.size))
    cell, classes = jnp.divmod(places, num_classes)
    y, x = jnp.divmod(cell, width)
    box = outputs.boxes.reshape(-1, 4)[cell]
    centres = (jnp.stack([x, y], axis=1) + 0.5 + box[:, :2]) / jnp.array([[width, height]])
    halves = box[:, 2:] / 2
    corners = jnp.clip(jnp.concatenate([centres - halves, centres + halves], axis=1), 0, 1)
    keep = suppressed(corners, scores, jnp.where(scores > 0, classes, PADDING), overlap)
    order = jnp.argsort(~keep, stable=True)
    return jax.tree.map(lambda array: array[order], Detections(corners, jnp.where(keep, classes, PADDING), scores))


def check_outputs(outputs: PyTree, size: int) -> None:
    """Refuses what is not a heat map `[size, h, w, C]` and boxes `[size, h, w, 4]`."""
    heat, boxes = getattr(outputs, "heat", None), getattr(outputs, "boxes", None)
    shape: tuple = getattr(heat, "shape", ())
    if len(shape) != 4 or shape[0] != size or getattr(boxes, "shape", ()) != (*shape[:3], 4):
        raise InputError(
            f"the model returned {described(outputs)} for a batch of {size}: for boxes it must return heat [{size}, h, "
            f"w, C] and boxes [{size}, h, w, 4]"
        )


def check_labels(labels: PyTree, size: int, outputs: PyTree) -> PyTree:
    """The labels, which must be `Boxes` of `size` images."""
    del outputs
    if not isinstance(labels, Boxes) or labels.classes.shape[:1] != (size,):
        raise InputError(f"labels are {described(labels)} for {size} images: pass Boxes of that many, or None")
    return labels


vars(loss_fn).update(check_outputs=check_outputs, check_labels=check_labels)


def _units(outputs):
    """What makes cells of the four numbers of a box: offsets are in cells, sizes shares of the image."""
    height, width = outputs.heat.shape[:2]
    return jnp.array([[1, 1, width, height]], outputs.boxes.dtype)


def _in_cells(corners, grid):
    """Centres and sizes `[K, 2]` as x, y in cells of a grid `(h, w)`."""
    scale = jnp.array([grid[::-1]], corners.dtype)
    low, high = corners[:, :2] * scale, corners[:, 2:] * scale
    return (low + high) / 2, high - low


def _heat(cells, sizes, classes, shape):
    """The targets `[h, w, C]`: of each class the maximum over its boxes of a Gaussian around the cell of the centre."""
    height, width, num_classes = shape
    spread = jnp.maximum(_SPREAD * sizes, 1e-3)

    def along(axis, length):
        distance = jnp.arange(length)[None] - cells[:, axis, None]
        return jnp.exp(-jnp.square(distance / spread[:, axis, None]) / 2)

    peaks = along(1, height)[:, :, None] * along(0, width)[:, None]  # [K, h, w]
    of_class = classes[:, None] == jnp.arange(num_classes)[None]  # [K, C]
    return jnp.where(of_class[:, None, None], peaks[..., None], 0).max(0, initial=0)


def _in_crowds(label, shape):
    """Which cells `[h, w, C]` lie in a crowd of a class, of which nobody says where its objects are."""
    height, width, num_classes = shape
    x, y = ((jnp.arange(width) + 0.5) / width)[None], ((jnp.arange(height) + 0.5) / height)[None]
    x0, y0, x1, y1 = label.corners.T[..., None]
    inside = ((y0 < y) & (y < y1))[:, :, None] & ((x0 < x) & (x < x1))[:, None]  # [K, h, w]
    of_class = jnp.where(label.crowd, label.classes, PADDING)[:, None] == jnp.arange(num_classes)[None]  # [K, C]
    return (inside[..., None] & of_class[:, None, None]).any(0)


def _within(labels):
    """The boxes whose centre is in the image, clipped to it; the others become padding."""
    low, high = labels.corners[..., :2], labels.corners[..., 2:]
    centre = (low + high) / 2
    inside = ((centre >= 0) & (centre <= 1)).all(-1)
    return labels._replace(corners=jnp.clip(labels.corners, 0, 1), classes=jnp.where(inside, labels.classes, PADDING))


def _aggregated(fun, outputs, overlap, aggregation):
    """`fun(logits[K, 2])` of the boxes of one example, object or not, beyond what it says of one that is certain."""
    detected = decoded(outputs, _MOST_DETECTIONS, overlap)
    scores = jnp.clip(detected.scores, 1e-6, 1 - 1e-6)
    logits = jnp.log(scores) - jnp.log1p(-scores)
    values = fun(jnp.stack([logits, jnp.zeros_like(logits)], axis=1)) - fun(jnp.array([[100.0, 0.0]], logits.dtype))
    there = (detected.classes != PADDING) & (detected.scores > _LEAST_SCORE)
    return _AGGREGATES[aggregation](jnp.where(there, values, 0), jnp.maximum(there.sum(), 1))


def _mean_outputs(outputs):
    """The mean of the probabilities, as logits, and of the boxes of M networks."""
    log_p = jax.nn.logsumexp(jax.nn.log_sigmoid(outputs.heat), axis=0)
    log_not_p = jax.nn.logsumexp(jax.nn.log_sigmoid(-outputs.heat), axis=0)
    return outputs._replace(heat=log_p - log_not_p, boxes=outputs.boxes.mean(0))


def _no_boxes(size: int, max_boxes: int) -> Boxes:
    shape = (size, max_boxes)
    return Boxes(np.zeros((*shape, 4), np.float32), np.full(shape, PADDING, np.int32), np.zeros(shape, bool))


def _summary(detections: Detections, labels: Boxes, num_classes: int) -> dict:
    """Mean average precision in percent at overlap .5, and over .5 to .95, and that at .5 by class."""
    from saal_jax.tasks._average_precision import average_precisions

    measured = average_precisions(detections, labels, num_classes)
    return {"test_map50": measured["map50"], "test_map": measured["map"], "class_ap50": measured["class_ap50"]}
