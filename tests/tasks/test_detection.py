"""Detection: the loss worked by hand and in numpy, boxes decoded, their uncertainty, and labels prepared and moved."""

import math

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.special import expit, log_expit

from saal_jax.boxes import Boxes, padded
from saal_jax.errors import InputError
from saal_jax.models.center_net import Cells
from saal_jax.scores import uncertainty
from saal_jax.tasks import detection as module
from saal_jax.tasks.detection import decoded, detection, loss_fn

CLASSES, GRID, MOST = 2, (6, 8), 5  # cells of an image of 24 x 32 pixels, and rows of its label
SHAPE = (24, 32, 3)
HALF = math.log(2)  # -log p of p = .5, which a logit of 0 says

jitted_loss = jax.jit(loss_fn)
jitted_decoded = jax.jit(decoded, static_argnums=(1, 2))


def make_task(**options):
    return detection(CLASSES, None, None, SHAPE, max_boxes=MOST, **options)


def boxes_of(*rows, size=MOST, crowd=()):
    """`Boxes` of rows (x0, y0, x1, y1, class)."""
    rows = np.array(rows, np.float64).reshape(-1, 5)
    is_crowd = np.array([number in crowd for number in range(len(rows))], bool)
    return padded(Boxes(rows[:, :4], rows[:, 4].astype(int), is_crowd), size)


def cells_of(boxes, logits, grid=GRID, background=-20.0):
    """What a detector says that is sure of these boxes, each with a logit, and of nothing else."""
    height, width = grid
    heat, numbers = np.full((*grid, CLASSES), background, np.float32), np.zeros((*grid, 4), np.float32)
    for corners, category, logit in zip(boxes.corners, boxes.classes, logits, strict=False):
        if category >= 0:
            x, y = (corners[:2] + corners[2:]) / 2 * (width, height)
            row, column = int(y), int(x)
            heat[row, column, category] = logit
            numbers[row, column] = x - column - 0.5, y - row - 0.5, *(corners[2:] - corners[:2])
    return Cells(jnp.asarray(heat), jnp.asarray(numbers))


def slow_loss(heat, boxes, label):
    """The loss box by box and cell by cell."""
    height, width, classes = heat.shape
    heat, boxes = heat.astype(np.float64), boxes.astype(np.float64)
    rows = [k for k in range(len(label.classes)) if label.classes[k] >= 0 and not label.crowd[k]]
    targets, distance = np.zeros(heat.shape), 0.0
    for k in rows:
        x0, y0, x1, y1 = label.corners[k].astype(np.float64) * (width, height, width, height)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        column, row = min(int(x), width - 1), min(int(y), height - 1)
        for i in range(height):
            for j in range(width):
                scaled = ((j - column) / max(0.09 * (x1 - x0), 1e-3), (i - row) / max(0.09 * (y1 - y0), 1e-3))
                value = math.exp(-(scaled[0] ** 2 + scaled[1] ** 2) / 2)
                targets[i, j, label.classes[k]] = max(targets[i, j, label.classes[k]], value)
        dx, dy, w, h = boxes[row, column] * (1, 1, width, height)
        differences = dx - (x - column - 0.5), dy - (y - row - 0.5), w - (x1 - x0), h - (y1 - y0)
        distance += np.maximum(np.abs(differences) - 1e-3, 0) @ (1, 1, 0.1, 0.1)
    p = expit(heat)
    peak, rest = -((1 - p) ** 2) * log_expit(heat), -((1 - targets) ** 4) * p**2 * log_expit(-heat)
    for k in range(len(label.classes)):
        if label.classes[k] >= 0 and label.crowd[k]:
            x0, y0, x1, y1 = label.corners[k]
            for i in range(height):
                for j in range(width):
                    if y0 < np.float32((i + 0.5) / height) < y1 and x0 < np.float32((j + 0.5) / width) < x1:
                        rest[i, j, label.classes[k]] = 0
    return (np.where(targets == 1, peak, rest).sum() + distance) / max(1, len(rows))


def test_the_loss_of_two_by_three_cells_by_hand():
    """One box of 3 x 1 cells around (1.75, .5); p is .5 everywhere, and the predicted box 1 x 1 around (1.5, .25)."""
    corners = [[0.25 / 3, 0.0, 3.25 / 3, 0.5]]
    boxes = jnp.zeros((2, 3, 4)).at[..., 1].set(-0.25).at[..., 2].set(1 / 3).at[..., 3].set(1 / 2)
    loss = loss_fn(Cells(jnp.zeros((2, 3, 1)), boxes), Boxes(jnp.array(corners), jnp.array([0]), jnp.array([False])))
    beside = math.exp(-((1 / (0.09 * 3)) ** 2) / 2)  # the target left and right of the centre; above and below it is 0
    focal = 0.25 * HALF * (1 + 2 * (1 - beside) ** 4 + 3)
    distance = 0.249 + 0.249 + 0.1 * (1.999 + 0)  # a thousandth of a cell is free
    np.testing.assert_allclose(loss, focal + distance, rtol=1e-5)


def test_targets_are_the_larger_of_the_gaussians_of_a_class_and_one_at_a_centre():
    cells, sizes = np.array([[1, 1], [4, 1], [6, 4]]), np.float32([[12, 3], [30, 3], [20, 20]])
    heat = np.asarray(module._heat(cells, sizes, np.array([0, 0, 1]), (*GRID, CLASSES)))

    def gaussian(x, y, number):
        scaled = (np.array([x, y]) - cells[number]) / (0.09 * sizes[number])
        return math.exp(-(scaled**2).sum() / 2)

    assert heat[1, 1, 0] == heat[1, 4, 0] == heat[4, 6, 1] == 1 and (heat == 1).sum() == 3
    for row, column in np.ndindex(GRID):
        both = gaussian(column, row, 0), gaussian(column, row, 1)
        np.testing.assert_allclose(heat[row, column, 0], max(both), rtol=1e-4, atol=1e-30)
        np.testing.assert_allclose(heat[row, column, 1], gaussian(column, row, 2), rtol=1e-4, atol=1e-30)
    assert heat[1, 2, 0] > gaussian(2, 1, 0)  # here the other box is the larger


sides = st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)).map(sorted)
drawn_box = st.tuples(sides, sides, st.integers(-1, CLASSES - 1), st.booleans())


@given(st.lists(drawn_box, max_size=MOST), st.integers(0, 2**32 - 1))
def test_the_loss_equals_one_computed_box_by_box(rows, seed):
    label = boxes_of(
        *((x[0], y[0], x[1], y[1], category) for x, y, category, _ in rows),
        crowd={number for number, row in enumerate(rows) if row[3]},
    )
    generator = np.random.default_rng(seed)
    heat = generator.normal(size=(*GRID, CLASSES), scale=3).astype(np.float32)
    boxes = generator.normal(size=(*GRID, 4)).astype(np.float32)
    np.testing.assert_allclose(jitted_loss(Cells(heat, boxes), label), slow_loss(heat, boxes, label), rtol=1e-4)


def test_without_a_box_there_is_the_background_alone():
    outputs = Cells(jnp.zeros((*GRID, CLASSES)), jnp.ones((*GRID, 4)))
    np.testing.assert_allclose(jitted_loss(outputs, boxes_of()), 6 * 8 * CLASSES * 0.25 * HALF, rtol=1e-6)


def test_padding_changes_nothing_and_a_crowd_as_little_as_it_may():
    generator = np.random.default_rng(0)
    outputs = Cells(*(generator.normal(size=(*GRID, last)).astype(np.float32) for last in (CLASSES, 4)))
    row, other = (0.1, 0.2, 0.5, 0.7, 1), (0.3, 0.1, 0.9, 0.8, 0)
    expected = slow_loss(*outputs, boxes_of(row, size=1))
    garbage = boxes_of((0.2, 0.2, 0.9, 0.9, -1), row)
    for label in (boxes_of(row), garbage):
        np.testing.assert_allclose(jitted_loss(outputs, label), expected, rtol=1e-5)
    crowd = boxes_of(row, other, crowd=[1])
    np.testing.assert_allclose(jitted_loss(outputs, crowd), slow_loss(*outputs, crowd), rtol=1e-5)
    assert slow_loss(*outputs, crowd) < expected
    assert abs(jitted_loss(outputs, boxes_of(row, other)) - expected) > 0.01


def test_a_perfect_prediction_costs_next_to_nothing_and_every_mistake_more():
    label = boxes_of((0.1, 0.1, 0.4, 0.6, 0), (0.5, 0.3, 0.95, 0.9, 1))
    perfect = cells_of(label, [20, 20])
    assert jitted_loss(perfect, label) < 1e-5
    mistakes = {
        "class": boxes_of((0.1, 0.1, 0.4, 0.6, 1), (0.5, 0.3, 0.95, 0.9, 1)),
        "missed": boxes_of((0.1, 0.1, 0.4, 0.6, 0), (0.5, 0.3, 0.95, 0.9, 1), (0.7, 0.0, 0.9, 0.2, 0)),
        "too many": boxes_of((0.1, 0.1, 0.4, 0.6, 0)),
        "place": boxes_of((0.12, 0.1, 0.42, 0.6, 0), (0.5, 0.3, 0.95, 0.9, 1)),
        "size": boxes_of((0.1, 0.05, 0.4, 0.65, 0), (0.5, 0.3, 0.95, 0.9, 1)),
    }
    for name, other in mistakes.items():
        assert jitted_loss(perfect, other) > 0.02, name


# Of every second cell, and no more than two cells wide: no two overlap by a half.
places = st.permutations([(row, column) for row in (0, 2, 4) for column in (0, 2, 4, 6)])
shapes = st.tuples(*[st.floats(-0.45, 0.45)] * 2, *[st.floats(0.4, 2)] * 2, st.integers(0, CLASSES - 1))


@given(places, st.lists(shapes, max_size=MOST))
def test_boxes_that_were_put_there_are_decoded(places, rows):
    height, width = GRID
    corners = []
    for (row, column), (dx, dy, w, h, category) in zip(places, rows, strict=False):
        x, y = column + 0.5 + dx, row + 0.5 + dy
        corners.append(((x - w / 2) / width, (y - h / 2) / height, (x + w / 2) / width, (y + h / 2) / height, category))
    expected = boxes_of(*corners)
    logits = np.arange(5.0, 0.0, -1)
    for found in (
        jitted_decoded(cells_of(expected, logits), MOST, 0.5),
        make_task(threshold=0.5).pseudo_label_fn(cells_of(expected, logits)),
    ):
        there = np.asarray(found.classes[: len(rows)])
        np.testing.assert_array_equal(there, expected.classes[: len(rows)])
        np.testing.assert_allclose(found.corners[: len(rows)], np.clip(expected.corners, 0, 1)[: len(rows)], atol=2e-6)
    # The background, whose score is next to nothing, is no box of the pseudo label.
    assert (found.classes[len(rows) :] == -1).all() and not found.crowd.any()


def test_of_boxes_that_overlap_the_best_of_a_class_is_decoded():
    rows = (0.0, 0.1, 0.7, 0.9), (0.1, 0.1, 0.95, 0.9)  # centres in columns 2 and 4, an overlap of .63
    for classes, overlap, expected in (((0, 0), 0.6, [1]), ((0, 0), 0.7, [1, 0]), ((0, 1), 0.6, [1, 0])):
        label = boxes_of(*((*row, category) for row, category in zip(rows, classes, strict=True)))
        found = make_task(threshold=0.5, overlap=overlap).pseudo_label_fn(cells_of(label, [2, 3]))
        assert found.classes.tolist() == [classes[k] for k in expected] + [-1] * (MOST - len(expected))
        np.testing.assert_allclose(found.corners[: len(expected)], label.corners[expected], atol=1e-6)


def test_a_cell_beside_a_higher_one_of_its_class_is_no_peak():
    rows = (0.3, 0.1, 0.4, 0.2), (0.4, 0.1, 0.5, 0.2)  # side by side, in neighbouring cells
    for classes, expected in (((1, 1), [1]), ((0, 1), [1, 0])):
        label = boxes_of(*((*row, category) for row, category in zip(rows, classes, strict=True)))
        found = make_task(threshold=0.5).pseudo_label_fn(cells_of(label, [2, 3]))
        assert found.classes.tolist()[:2] == ([classes[k] for k in expected] + [-1])[:2]


def test_the_pseudo_label_is_what_scores_above_the_threshold():
    label = boxes_of((0.0, 0.0, 0.2, 0.2, 0), (0.4, 0.4, 0.6, 0.6, 1), (0.8, 0.8, 1.0, 1.0, 0))
    cells = cells_of(label, np.log([0.9 / 0.1, 0.6 / 0.4, 0.3 / 0.7]))
    for threshold, classes in ((0.2, [0, 1, 0]), (0.4, [0, 1]), (0.61, [0]), (0.95, [])):
        found = make_task(threshold=threshold).pseudo_label_fn(cells)
        assert found.classes.tolist() == classes + [-1] * (MOST - len(classes))
    np.testing.assert_allclose(jitted_decoded(cells, 3, 0.5).scores, [0.9, 0.6, 0.3], rtol=1e-5)


def test_at_its_own_boxes_the_gradient_is_of_the_heat_alone():
    """Else it would be of either sign by chance, and a score depend on what is rounded how."""
    generator = np.random.default_rng(0)
    boxes = [generator.uniform(-0.4, 0.4, (3, *GRID, 2)), generator.uniform(0.1, 0.2, (3, *GRID, 2))]
    cells = Cells(np.float32(generator.normal(size=(3, *GRID, CLASSES))), np.float32(np.concatenate(boxes, axis=3)))
    at_own = jax.vmap(lambda cells: loss_fn(cells, make_task().pseudo_label_fn(cells)))
    gradients = jax.jit(jax.grad(lambda cells: at_own(cells).sum()))(cells)
    inside = np.s_[:, 1:-1, 1:-1]  # boxes at the edge are clipped: these differ from what was predicted
    assert not gradients.boxes[inside].any() and gradients.heat.any()


def test_no_gradient_goes_through_the_pseudo_label():
    cells = cells_of(boxes_of((0.1, 0.2, 0.5, 0.7, 1)), [2])

    def total(cells):
        return make_task().pseudo_label_fn(cells).corners.sum()

    assert all(not leaf.any() for leaf in jax.tree.leaves(jax.grad(total)(cells)))


BINARY = {
    uncertainty.entropy: lambda p: -p * math.log(p) - (1 - p) * math.log(1 - p),
    uncertainty.least_confidence: lambda p: 1 - max(p, 1 - p),
    uncertainty.margin: lambda p: 1 - abs(2 * p - 1),  # a certain box has -1, and adds nothing
}


@pytest.mark.parametrize("fun", BINARY)
def test_uncertainty_sums_up_that_of_the_boxes(fun):
    label = boxes_of((0.0, 0.0, 0.2, 0.2, 0), (0.4, 0.4, 0.6, 0.6, 1), (0.8, 0.8, 1.0, 1.0, 0))
    logits = np.log([0.9 / 0.1, 0.6 / 0.4, 0.3 / 0.7])
    values = [BINARY[fun](p) for p in (0.9, 0.6, 0.3)]
    images = [cells_of(label, logits), cells_of(label, [*logits[:2], 30.0]), cells_of(boxes_of(), [])]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *images)
    found = {name: make_task().uncertainty(fun, batch, name) for name in ("sum", "max", "mean")}
    at = {"rtol": 1e-4, "atol": 5e-5}
    np.testing.assert_allclose(found["sum"], [sum(values), sum(values[:2]), 0], **at)
    np.testing.assert_allclose(found["max"], [max(values), max(values[:2]), 0], **at)
    np.testing.assert_allclose(found["mean"], [sum(values) / 3, sum(values[:2]) / 3, 0], **at)


def test_labels_are_padded_and_keep_their_order():
    rows = [(0.1, 0.1, 0.2, 0.2, 1), (0, 0, 0, 0, -1), (0.3, 0.3, 0.4, 0.4, 0), (0.5, 0.5, 0.6, 0.6, 1)]
    batch = jax.tree.map(lambda leaf: leaf[None], boxes_of(*rows, size=8, crowd=[2]))
    prepared = make_task().prepare(batch, np.array(["a"]))
    expected = boxes_of(*(row for row in rows if row[4] >= 0), crowd=[1])
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], prepared), expected)
    assert make_task().costs(np.array([True]), prepared) == {"num_boxes": 3}
    assert make_task().costs(np.array([False]), prepared) == {"num_boxes": 0}


def test_more_boxes_than_a_label_has_rows_are_refused_by_the_name_of_the_image():
    one, many = (boxes_of(*[(0.1, 0.1, 0.2, 0.2, 0)] * count, size=9) for count in (1, MOST + 1))
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), one, many)
    message = "image dog has 6 boxes, but max_boxes=5 of a label: raise max_boxes"
    with pytest.raises(InputError, match=message):
        make_task().prepare(batch, np.array(["cat", "dog"]))


def test_boxes_whose_centre_left_the_image_go_and_others_are_clipped():
    rows = [(-0.3, 0.2, 0.2, 0.4, 0), (-0.1, 0.2, 0.2, 0.4, 1), (0.4, 0.9, 0.6, 1.2, 0), (0.4, 0.7, 0.6, 1.2, 0)]
    within = module._within(boxes_of(*rows))
    assert within.classes.tolist() == [-1, 1, -1, 0, -1]
    np.testing.assert_allclose(within.corners[1], [0, 0.2, 0.2, 0.4])
    np.testing.assert_allclose(within.corners[3], np.float32([0.4, 0.7, 0.6, 1]))


def test_the_mean_of_networks_is_that_of_their_probabilities_and_boxes():
    p = jnp.array([0.2, 0.6])[:, None, None, None, None]
    outputs = Cells(jnp.log(p) - jnp.log1p(-p), jnp.stack([jnp.ones((1, 1, 1, 4)), jnp.full((1, 1, 1, 4), 2.0)]))
    mean = make_task().mean_outputs(outputs)
    np.testing.assert_allclose(jax.nn.sigmoid(mean.heat), [[[[0.4]]]], rtol=1e-6)
    np.testing.assert_allclose(mean.boxes, 1.5 * np.ones((1, 1, 1, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: module.check_outputs(jnp.zeros((2, 3)), 2), "the model returned float32[2, 3] for a batch of 2"),
        (
            lambda: module.check_outputs(Cells(jnp.zeros((2, 3, 3, 1)), jnp.zeros((2, 3, 3, 5))), 2),
            "it must return heat [2, h, w, C] and boxes [2, h, w, 4]",
        ),
        (lambda: module.check_labels(np.zeros(2, int), 2, None), "labels are int64[2] for 2 images: pass Boxes"),
        (lambda: make_task().augment(None, None, None), "this augmentation does not say how boxes move"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)


def test_inside_a_crowd_nothing_is_learned_of_its_class():
    """Neither that an object is there nor that none is; of other classes, and elsewhere, what was."""
    heat = jnp.zeros((4, 4, 2))
    outputs = Cells(heat, jnp.ones((4, 4, 4)))
    crowd = Boxes(jnp.array([[0.0, 0.0, 0.5, 0.5]]), jnp.array([1]), jnp.array([True]))
    gradients = jax.grad(lambda heat: loss_fn(outputs._replace(heat=heat), crowd))(heat)
    inside = np.zeros((4, 4, 2), bool)
    inside[:2, :2, 1] = True
    np.testing.assert_array_equal(np.asarray(gradients) == 0, inside)


def test_the_own_answer_is_the_surest_boxes_that_are_left_after_suppression():
    """Two peaks on one object and one on another: of a label of two rows both objects have one."""
    heat = np.full((4, 8, 1), -9.0, np.float32)
    boxes = np.zeros((4, 8, 4), np.float32)
    boxes[..., 2:] = 0.5
    heat[1, 1], heat[1, 3], heat[1, 6] = 5.0, 4.0, 3.0
    boxes[1, 3, 0] = -2.0  # the same object as the first
    task = detection(1, None, None, (16, 32, 1), max_boxes=2)
    label = task.pseudo_label_fn(Cells(jnp.asarray(heat), jnp.asarray(boxes)))
    np.testing.assert_array_equal(label.classes, [0, 0])
    np.testing.assert_allclose(
        label.corners.mean(0), [(1.5 + 6.5) / 16 - 0.25, 0.125, (1.5 + 6.5) / 16 + 0.25, 0.625], atol=0.07
    )
