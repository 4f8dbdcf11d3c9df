"""Segmentation: loss and measures worked in NumPy, regions and what they cost, and masks refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from scipy.special import log_softmax, softmax

from saal_jax.errors import InputError
from saal_jax.moves import VOID
from saal_jax.scores import uncertainty
from saal_jax.tasks import segmentation as module
from saal_jax.tasks.segmentation import confusion, loss_fn, pooled, segmentation, summary

CLASSES, SHAPE = 3, (4, 6, 3)


def make_task(rows=1, columns=1):
    return segmentation(CLASSES, None, None, SHAPE, rows=rows, columns=columns)


@functools.cache
def drawn(size=5):
    """Logits and masks; of the first mask all is void, and of the others a quarter."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(size, *SHAPE[:2], CLASSES), scale=2).astype(np.float32)
    labels = generator.integers(CLASSES, size=(size, *SHAPE[:2])).astype(np.uint8)
    void = generator.random(labels.shape) < 0.25
    void[0] = True
    return logits, np.where(void, VOID, labels).astype(np.uint8)


def test_the_mean_loss_is_that_of_the_pixels_that_are_known():
    logits, labels = drawn()
    losses = np.asarray(jax.vmap(loss_fn)(logits, labels))
    assert losses.shape == labels.shape and not losses[labels == VOID].any()
    means = make_task().losses(logits, labels)
    assert means[0] == 0
    for row in range(1, len(labels)):
        known = labels[row] != VOID
        expected = -np.take_along_axis(log_softmax(logits[row][known], axis=1), labels[row][known][:, None], 1)
        np.testing.assert_allclose(means[row], expected.mean(), rtol=1e-5)
        np.testing.assert_allclose(losses[row][known], expected[:, 0] * known.size / known.sum(), rtol=1e-4)


def test_void_pixels_have_no_gradient():
    logits, labels = drawn()
    gradients = np.asarray(jax.grad(lambda logits: make_task().losses(logits, labels).sum())(logits))
    assert np.isfinite(gradients).all() and not gradients[labels == VOID].any()
    known = labels != VOID
    expected = (softmax(logits, -1) - np.eye(CLASSES)[np.minimum(labels, CLASSES - 1)])[known]
    counts = np.broadcast_to(known.sum((1, 2))[:, None, None], known.shape)[known]
    np.testing.assert_allclose(gradients[known], expected / counts[:, None], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (1, 3), (2, 3), (4, 6)])
@pytest.mark.parametrize("more", [(), (2,)])
def test_pooled_takes_the_means_of_regions_in_the_order_of_their_parts(grid, more):
    values = np.random.default_rng(0).normal(size=(*SHAPE[:2], *more)).astype(np.float32)
    found = pooled(jnp.asarray(values), grid)
    if grid == (1, 1):
        np.testing.assert_allclose(found, values.mean((0, 1)), rtol=1e-5)
        return
    task = make_task(*grid)
    assert found.shape == (task.regions, *more)
    means = [task.part(values, region).mean((0, 1)) for region in range(task.regions)]
    np.testing.assert_allclose(found, means, rtol=1e-5, atol=1e-6)


def test_scores_and_uncertainty_are_means_over_each_region():
    logits, _ = drawn()
    task, values = make_task(2, 3), uncertainty.entropy(logits.reshape(-1, CLASSES)).reshape(len(logits), *SHAPE[:2])
    expected = [[task.part(value, region).mean() for region in range(6)] for value in np.asarray(values)]
    np.testing.assert_allclose(task.by_candidate(values), expected, rtol=1e-5)
    for aggregation in ("sum", "max", "mean"):
        np.testing.assert_allclose(task.uncertainty(uncertainty.entropy, logits, aggregation), expected, rtol=1e-5)
    whole = make_task().uncertainty(uncertainty.entropy, logits, "mean")
    np.testing.assert_allclose(whole, np.mean(expected, 1), rtol=1e-5)
    np.testing.assert_allclose(make_task().by_candidate(values), whole, rtol=1e-5)


def test_confusion_is_that_of_scikit_learn_without_the_void():
    logits, labels = drawn()
    matrices = np.asarray(confusion(logits, labels))
    assert matrices.shape == (len(labels), CLASSES, CLASSES) and not matrices[0].any()
    for row in range(1, len(labels)):
        known = labels[row] != VOID
        of_pixels = labels[row][known], logits[row].argmax(-1)[known]
        expected = sklearn.metrics.confusion_matrix(*of_pixels, labels=range(CLASSES))
        np.testing.assert_array_equal(matrices[row], expected)


def test_the_summary_of_a_test_set_agrees_with_scikit_learn():
    logits, labels = drawn()
    known, predicted = labels != VOID, logits.argmax(-1)
    found = make_task().summarize(jax.device_get(make_task().measure(logits, labels)))
    by_class = 100 * sklearn.metrics.jaccard_score(labels[known], predicted[known], average=None)
    np.testing.assert_allclose(found["class_iou"], by_class)
    np.testing.assert_allclose(found["test_miou"], by_class.mean())
    np.testing.assert_allclose(found["pixel_accuracy"], 100 * (labels == predicted)[known].mean())


def test_classes_that_are_nowhere_are_left_out_of_the_mean():
    """Class 1 is neither there nor predicted, 2 there but never found, 3 predicted where there is none."""
    found = summary(np.array([[6, 0, 0, 2], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_equal(found["class_iou"], [60.0, np.nan, 0.0, 0.0])
    assert found["test_miou"] == 20 and found["pixel_accuracy"] == 60
    nothing = summary(np.zeros((2, 2), int))
    np.testing.assert_equal(nothing, {"test_miou": np.nan, "pixel_accuracy": np.nan, "class_iou": [np.nan] * 2})


def test_parts_are_cut_out_and_put_back_where_they_were():
    task = make_task(2, 3)
    label = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert task.regions == 6
    assert task.part(label, 4).tolist() == [[14, 15], [20, 21]]  # the second row's middle
    answer = np.full((2, 2), 99, np.uint8)
    changed = task.with_part(label, 4, answer)
    np.testing.assert_array_equal(changed == 99, np.isin(label, [14, 15, 20, 21]))
    assert label.max() == 23  # the label itself is left alone
    whole = make_task()
    assert whole.regions == 1 and whole.part is None and whole.with_part is None


def test_what_is_bought_costs_its_pixels_and_void_ones_are_named_apart():
    task = make_task(2, 3)
    label = np.zeros((4, 6), np.uint8)
    label[2, 2] = VOID  # of region 4
    labels, known = task.empty(3), np.zeros(18, bool)
    for region in (0, 4):
        labels[1] = task.with_part(labels[1], region, task.part(label, region))
        known[6 + region] = True
    assert task.costs(known, labels) == {"num_pixels": 8, "num_void_pixels": 1}
    known = np.array([False, True, False])
    assert make_task().costs(known, np.stack([*task.empty(1), label, *task.empty(1)])) == {
        "num_pixels": 24,
        "num_void_pixels": 1,
    }


def test_answers_of_the_network_are_most_and_least_likely_classes():
    logits, _ = drawn()
    for fun, expected in ((make_task().pseudo_label_fn, np.argmax), (make_task().least_likely_fn, np.argmin)):
        found = jax.vmap(fun)(logits)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected(logits, -1))


def test_the_mean_of_networks_is_that_of_their_probabilities():
    logits = drawn()[0][:4].reshape(2, 2, *SHAPE[:2], CLASSES)
    mean = make_task().mean_outputs(jnp.asarray(logits))
    np.testing.assert_allclose(softmax(mean, -1), softmax(logits, -1).mean(0), rtol=1e-5)


def test_masks_are_kept_as_they_are():
    _, labels = drawn()
    kept = make_task().prepare(labels.astype(int), np.arange(5).astype(str))
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(kept, labels)


def wrong(value):
    labels = np.zeros((2, 4, 6), int)
    labels[1, 2, 3] = value
    return labels


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_task().prepare(np.zeros((1, 4, 5), np.uint8), ["a"]),
            "labels of (4, 5) pixels do not fit images of 4 x 6",
        ),
        (lambda: make_task().prepare(wrong(3), ["cat", "dog"]), "label 3 in the mask of dog is none of 0..2 or 255"),
        (lambda: make_task().prepare(wrong(-2), ["cat", "dog"]), "label -2 in the mask of dog is none of 0..2 or 255"),
        (lambda: make_task().prepare(wrong(256), ["cat", "dog"]), "label 256 in the mask of dog"),
        (lambda: make_task(3, 3), "images of 4 x 6 pixels cannot be cut into 3 rows and 3 columns of one size"),
        (lambda: make_task(2, 4), "images of 4 x 6 pixels cannot be cut into 2 rows and 4 columns of one size"),
        (lambda: segmentation(256, None, None, SHAPE), "256 classes"),
        (lambda: make_task().augment(None, None, None), "this augmentation does not say how pixels move"),
        (lambda: module.check_outputs(jnp.zeros((2, 3)), 2), "it must return logits [2, H, W, C]"),
        (
            lambda: module.check_labels(np.zeros((2, 4, 5), int), 2, jnp.zeros((2, 4, 6, 3))),
            "labels are int64[2, 4, 5]: pass integers [2, 4, 6]",
        ),
        (lambda: module.check_labels(np.zeros((2, 4, 6)), 2, None), "labels are float64[2, 4, 6]"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)
