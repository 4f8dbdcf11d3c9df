"""Boxes: their overlap, the best of those that overlap, and padding."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from saal_jax.boxes import Boxes, intersections_over_unions, padded, suppressed
from saal_jax.errors import InputError

jitted = jax.jit(suppressed)
MOST = 8  # boxes of a drawn case, which is padded to them: one compilation


def overlap(a, b):
    """Intersection over union in plain Python."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union else 0.0


def kept(corners, scores, classes, threshold):
    """The greedy loop of the textbook."""
    chosen = []
    for candidate in sorted(range(len(scores)), key=lambda place: (-scores[place], place)):
        rivals = [place for place in chosen if classes[place] == classes[candidate]]
        if classes[candidate] >= 0 and all(
            overlap(corners[place], corners[candidate]) <= threshold for place in rivals
        ):
            chosen.append(candidate)
    return [place in chosen for place in range(len(scores))]


# On a grid of eighths with few scores and classes: equal boxes, equal scores and overlaps at the threshold are common.
eighths = st.integers(0, 7).flatmap(lambda low: st.tuples(st.just(low), st.integers(low, 8)))
box = st.tuples(eighths, eighths).map(lambda xy: [xy[0][0] / 8, xy[1][0] / 8, xy[0][1] / 8, xy[1][1] / 8])
row = st.tuples(box, st.sampled_from([0.125, 0.5, 0.75]), st.integers(-1, 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(row, max_size=MOST), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_suppression_keeps_what_a_greedy_loop_keeps(rows, threshold):
    rows = rows + [([0.0, 0.0, 1.0, 1.0], 1.0, -1)] * (MOST - len(rows))
    corners, scores, classes = zip(*rows, strict=True)
    keep = jitted(np.float32(corners), np.float32(scores), np.int32(classes), threshold)
    assert keep.tolist() == kept(corners, scores, classes, threshold)


def test_a_box_that_a_suppressed_one_overlaps_is_kept():
    corners = jnp.array([[0.0, 0.0, 0.4, 1.0], [0.1, 0.0, 0.5, 1.0], [0.2, 0.0, 0.6, 1.0]])  # a row of dominoes
    keep = suppressed(corners, jnp.array([0.9, 0.8, 0.7]), jnp.zeros(3, int), 0.5)
    assert keep.tolist() == [True, False, True]


def test_suppression_of_many_images_at_a_time():
    corners, scores = jnp.zeros((3, 2, 4)).at[..., 2:].set(1.0), jnp.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    keep = jax.vmap(suppressed, (0, 0, 0, None))(corners, scores, jnp.zeros((3, 2), int), 0.5)
    assert keep.tolist() == [[True, False], [False, True], [True, False]]


def test_overlap_of_boxes_worked_by_hand():
    box = [0.0, 0.0, 0.5, 0.5]
    others = {
        (0.0, 0.0, 0.5, 0.5): 1,
        (0.25, 0.25, 0.75, 0.75): 1 / 7,  # a quarter of each in common
        (0.125, 0.125, 0.375, 0.375): 1 / 4,  # inside it
        (0.5, 0.0, 1.0, 0.5): 0,  # side by side
        (0.75, 0.75, 1.0, 1.0): 0,  # apart on both axes: two negative sides are no area
        (0.25, 0.25, 0.25, 0.25): 0,
    }
    overlaps = intersections_over_unions(np.float32([box]), np.float32(list(others)))
    np.testing.assert_allclose(overlaps, [list(others.values())], rtol=1e-6)
    assert intersections_over_unions(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]


def test_padding_adds_rows_of_no_class_to_one_image_or_many():
    boxes = Boxes(np.ones((2, 3, 4)), np.ones((2, 3), int), np.ones((2, 3), bool))
    many = padded(boxes, 5)
    assert [(leaf.shape, leaf.dtype.name) for leaf in many] == [
        ((2, 5, 4), "float32"),
        ((2, 5), "int32"),
        ((2, 5), "bool"),
    ]
    assert many.classes.tolist() == [[1, 1, 1, -1, -1]] * 2 and not many.crowd[:, 3:].any()
    np.testing.assert_array_equal(many.corners[:, 3:], 0)
    for one, of_many in zip(padded(Boxes(*(leaf[0] for leaf in boxes)), 5), many, strict=True):
        np.testing.assert_array_equal(one, of_many[0])


def test_more_boxes_than_rows_are_refused():
    with pytest.raises(InputError, match="3 boxes for an image do not fit into 2 rows: pad to 3 or more"):
        padded(Boxes(np.ones((3, 4)), np.ones(3, int), np.ones(3, bool)), 2)
