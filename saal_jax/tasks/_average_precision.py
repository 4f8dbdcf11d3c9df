"""Average precision of detections as COCO defines it, in percent."""

import hotcoco
import numpy as np

from saal_jax.boxes import Boxes, Detections


def average_precisions(detections: Detections, truths: Boxes, num_classes: int) -> dict:
    """Mean average precision over the classes that have a true box, and that of each class.

    As `pycocotools` computes it: precision at 101 recalls, for all sizes of boxes; of an image and a class the 100
    detections of the highest scores count, of equal scores the earlier first. Detections that match a crowd are neither
    right nor wrong. The metric is COCO's: numbers of Pascal VOC's definitions differ in the third digit.

    Args:
      detections: arrays of numpy, `[N, D, ...]`; rows that are not finite are taken for padding.
      truths: arrays of numpy, `[N, K, ...]`.
      num_classes: C.

    Returns:
      `map50`, the mean at an intersection over union of .5; `map`, that over .50, .55, ... .95; `class_ap50`, a list of
      C, NaN of a class without a true box that is no crowd. The means leave such classes out, and are NaN where there
      is no other. A class of which nothing is detected has 0.

    >>> box = np.float32([[[0.1, 0.1, 0.5, 0.5]]])
    >>> truths = Boxes(box, np.array([[1]]), np.array([[False]]))
    >>> result = average_precisions(Detections(box + 0.05, np.array([[1]]), np.array([[0.9]])), truths, 2)
    >>> print({name: np.round(value, 4).tolist() for name, value in result.items()})
    {'map50': 100.0, 'map': 30.0, 'class_ap50': [nan, 100.0]}
    """
    finite = np.isfinite(detections.corners).all(-1) & np.isfinite(detections.scores)
    detected, true = (detections.classes >= 0) & finite, truths.classes >= 0
    images = [{"id": image} for image in range(len(true))]
    categories = [{"id": category, "name": str(category)} for category in range(num_classes)]
    boxes = _sides(truths.corners[true])
    columns = {"area": boxes[:, 2:].prod(1), "iscrowd": truths.crowd[true].astype(int)}
    known = hotcoco.COCO.from_arrays(images, categories, np.nonzero(true)[0], truths.classes[true], boxes, **columns)
    rows = [np.nonzero(detected)[0], _sides(detections.corners[detected]), detections.scores[detected]]
    results = known.load_res(np.column_stack([*rows, detections.classes[detected]]).astype(np.float64))

    evaluation = hotcoco.COCOeval(known, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # [overlap, recall, class, size, most detections], -1 where a class has no true box; all sizes, and 100, it is.
    curves = (evaluation.eval or {})["precision"]
    precisions = np.asarray(curves)[:, :, :, 0, -1].mean(1)
    precisions = 100 * np.where(precisions >= 0, precisions, np.nan)
    there = precisions[:, ~np.isnan(precisions[0])]
    return {
        "map50": float(there[0].mean()) if there.size else np.nan,
        "map": float(there.mean()) if there.size else np.nan,
        "class_ap50": precisions[0].tolist(),
    }


def _sides(corners):
    """x, y, width and height, as COCO has them."""
    corners = corners.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
