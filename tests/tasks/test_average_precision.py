"""Average precision: COCO's own program says the same, and a case worked by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from saal_jax.boxes import Boxes, Detections
from saal_jax.tasks._average_precision import average_precisions

CLASSES = 3


def sides(corners):
    x0, y0, x1, y1 = map(float, corners)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}


def by_pycocotools(detections, truths):
    """The same three results; `pycocotools` itself fails without any detection."""
    known, results = COCO(), []
    known.dataset = {
        "images": [{"id": image} for image in range(len(truths.classes))],
        "categories": [{"id": category} for category in range(CLASSES)],
        "annotations": [],
    }
    for image, row in np.argwhere(truths.classes >= 0):
        place = {"id": len(known.dataset["annotations"]) + 1, "image_id": image, **sides(truths.corners[image, row])}
        kind = {"category_id": truths.classes[image, row], "iscrowd": int(truths.crowd[image, row])}
        known.dataset["annotations"].append(place | kind)
    for image, row in np.argwhere(detections.classes >= 0):
        place = {"image_id": image, **sides(detections.corners[image, row])}
        results.append(
            place | {"category_id": detections.classes[image, row], "score": float(detections.scores[image, row])}
        )
    known.createIndex()
    evaluation = COCOeval(known, known.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    mean = lambda part: 100 * part[part > -1].mean() if (part > -1).any() else np.nan  # noqa: E731
    return mean(precision[0]), mean(precision), [mean(precision[0, :, c]) for c in range(CLASSES)]


def check(detections, truths):
    result = average_precisions(detections, truths, CLASSES)
    expected = by_pycocotools(detections, truths)
    np.testing.assert_allclose(result["map50"], expected[0], rtol=1e-9)
    np.testing.assert_allclose(result["map"], expected[1], rtol=1e-9)
    np.testing.assert_allclose(result["class_ap50"], expected[2], rtol=1e-9)


# Boxes of sixths, three scores: equal boxes and scores, and overlaps at the thresholds, are common.
interval = st.tuples(st.integers(0, 5), st.integers(1, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
corners = st.tuples(interval, interval).map(lambda xy: [xy[0][0] / 6, xy[1][0] / 6, xy[0][1] / 6, xy[1][1] / 6])
classes = st.integers(-1, CLASSES - 1)
scores = st.sampled_from([0.125, 0.5, 0.75])
IMAGES, ROWS = 3, 5


def rows_of(*columns):
    rows = st.lists(st.tuples(*columns), min_size=IMAGES * ROWS, max_size=IMAGES * ROWS)
    return rows.map(
        lambda rows: [np.reshape(column, (IMAGES, ROWS, *np.shape(column[0]))) for column in zip(*rows, strict=True)]
    )


@given(rows_of(corners, classes, scores), rows_of(corners, classes, st.booleans()))
def test_results_are_those_of_pycocotools(detected, known):
    detected[1].flat[0] = 0  # one at least
    check(Detections(*detected), Boxes(*known))


@pytest.mark.parametrize("seed", range(10))
def test_more_detections_than_count(seed):
    """Of 150 in an image those beyond the hundredth of a class are left out, though they are right."""
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 0.8, (2, 20, 2))
    true = np.concatenate([low, low + draw.uniform(0.05, 0.2, low.shape)], -1)
    detected = true[:, draw.integers(0, 20, 150)] + draw.normal(0, 0.005, (2, 150, 4))
    truths = Boxes(true, draw.choice(2, (2, 20), p=[0.9, 0.1]), draw.random((2, 20)) < 0.2)
    kinds = draw.choice(2, (2, 150), p=[0.9, 0.1])
    detections = Detections(detected, kinds, draw.integers(0, 30, (2, 150)) / 30)
    check(detections, truths)
    first = np.argsort(-detections.scores, axis=1, kind="stable")[:, :100]
    fewer = Detections(
        *(np.take_along_axis(leaf, first.reshape(2, 100, *[1] * (leaf.ndim - 2)), 1) for leaf in detections)
    )
    assert (kinds == 0).sum(1).min() > 100
    assert average_precisions(fewer, truths, CLASSES) != average_precisions(detections, truths, CLASSES)


def test_a_case_worked_by_hand():
    """Of class 0, three boxes in two images: right (.9), wrong (.8), right at an overlap of .75 (.7), right at .6 (.6);
    of class 1, one box that is missed.

    Precision at .5 is 1 to a recall of a third, then 3/4 to the end: (34 + 67 x 3/4) / 101. From .65 to .75 the third
    box is missed: (34 + 33 x 2/3) / 101; above that the second too: 34 / 101. Halved by class 1.
    """
    box = [0.0, 0.0, 0.5, 0.5]
    truths = Boxes(
        np.array([[box, [0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]], [box, box, box]]),
        np.array([[0, 0, 1], [0, -1, -1]]),
        np.zeros((2, 3), bool),
    )
    found = Detections(
        np.array(
            [
                [box, [0.5, 0.0, 1.0, 0.5], [0.5, 0.5, 0.875, 1.0]],
                [[0.0, 0.0, 0.5, 0.3], box, box],
            ]
        ),
        np.array([[0, 0, 0], [0, -1, -1]]),
        np.array([[0.9, 0.8, 0.7], [0.6, 0.99, 0.99]]),
    )
    half, most, least = (34 + 67 * 0.75) / 101, (34 + 33 * 2 / 3) / 101, 34 / 101
    result = average_precisions(found, truths, 2)
    np.testing.assert_allclose(result["map50"], 100 * half / 2, rtol=1e-9)
    assert round(result["map50"], 4) == 41.7079 and round(result["map"], 4) == 27.5619
    np.testing.assert_allclose(result["map"], 10 * (3 * half + 3 * most + 4 * least) / 2, rtol=1e-9)
    np.testing.assert_allclose(result["class_ap50"], [100 * half, 0.0], rtol=1e-9)


def of(*classes):
    """One box, always the same, of each class, as truths and as detections."""
    kinds = np.array(classes, int).reshape(1, -1)
    corners = np.tile(np.float32([0.1, 0.1, 0.6, 0.6]), (*kinds.shape, 1))
    return Boxes(corners, kinds, np.zeros(kinds.shape, bool)), Detections(corners, kinds, np.full(kinds.shape, 0.5))


@pytest.mark.parametrize(
    ("known", "detected", "mean", "by_class"),
    [
        ((0,), (), 0, [0, np.nan, np.nan]),
        ((0,), (-1,), 0, [0, np.nan, np.nan]),
        ((), (0,), np.nan, [np.nan] * 3),
        ((-1,), (-1,), np.nan, [np.nan] * 3),
        ((0, 1), (0, 2), 50, [100, 0, np.nan]),
    ],
)
def test_nothing_detected_is_zero_and_nothing_there_is_nan(known, detected, mean, by_class):
    result = average_precisions(of(*detected)[1], of(*known)[0], CLASSES)
    np.testing.assert_allclose(result["map50"], mean, rtol=1e-9)
    np.testing.assert_allclose(result["map"], mean, rtol=1e-9)
    np.testing.assert_allclose(result["class_ap50"], by_class, rtol=1e-9)


def test_a_class_with_crowds_alone_has_no_precision():
    truths, detections = of(0, 1)
    result = average_precisions(detections, truths._replace(crowd=np.array([[False, True]])), CLASSES)
    np.testing.assert_allclose(result["class_ap50"], [100, np.nan, np.nan], rtol=1e-9)


@pytest.mark.parametrize("changes", [{"scores": np.nan}, {"scores": np.inf}, {"corners": np.nan}])
def test_what_is_not_finite_is_no_detection(changes, capfd):
    truths, detections = of(0)
    changed = detections._replace(
        **{name: np.full_like(getattr(detections, name), value) for name, value in changes.items()}
    )
    assert average_precisions(changed, truths, CLASSES)["map50"] == 0
    assert capfd.readouterr() == ("", "")
