"""Digits to be found and shapes to be outlined: made here, the same everywhere."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from saal_jax.data import load_boxes, load_masks
from saal_jax.data.digits_detection import enlarged
from saal_jax.errors import InputError


def test_digits_stand_where_their_boxes_say():
    data = load_boxes("digits_detection")
    assert data.class_names == tuple("0123456789")
    for split, count in ((data.train, 400), (data.test, 300)):
        corners, classes, crowd = split.labels
        assert split.images.shape == (count, 40, 40, 1) and corners.shape == (count, 2, 4) and not crowd.any()
        assert set((classes >= 0).sum(1).tolist()) == {1, 2}
        pixels = np.rint(corners * 40).astype(int)
        np.testing.assert_allclose(pixels / 40, corners, atol=1e-6)
        for image, boxes, labels in zip(split.images[..., 0], pixels, classes, strict=True):
            outside = np.ones((40, 40), bool)
            for x0, y0, x1, y1 in boxes[labels >= 0].tolist():
                assert 4 <= x1 - x0 <= 20 and 8 <= y1 - y0 <= 20
                assert image[y0:y1, x0:x1].max() >= 100  # something bright
                outside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
            assert image[outside].max() < 64 + 2  # noise, and of glyphs what is under a quarter
            if (labels >= 0).all():
                (a, b, c, d), (e, f, g, h) = boxes.tolist()
                assert c <= e or g <= a or d <= f or h <= b
    counts = np.bincount(data.train.labels.classes[data.train.labels.classes >= 0], minlength=10)
    assert counts.min() > 35 and len(counts) == 10


def test_no_glyph_is_in_pool_and_test():
    """A glyph that fills its window is found again among those it may be of, and not among the others."""
    from saal_jax.data import digits_detection

    glyphs = load_digits().images / 16
    data, cut = load_boxes("digits_detection"), len(glyphs) * 2 // 3
    rng = np.random.default_rng([0, 0])  # of the first image
    rng.integers(0, 64, (40, 40))
    top, left, size = digits_detection._places(rng)[0]
    window = data.train.images[0, top : top + size, left : left + size, 0].astype(float)
    errors = []
    for glyph in glyphs:
        big = enlarged(glyph, size)
        bright = big > 0.6
        scale = (window[bright] * big[bright]).sum() / (big[bright] ** 2).sum()
        errors.append(np.abs(window[bright] - scale * big[bright]).mean())
    assert np.argmin(errors) < cut


def test_enlarging_is_linear_between_centres():
    np.testing.assert_allclose(enlarged(np.array([[0.0, 1], [0, 1]]), 4)[0], [0, 0.25, 0.75, 1])
    glyph = np.random.default_rng(0).random((8, 8))
    np.testing.assert_array_equal(enlarged(glyph, 8), glyph)


def test_shapes_are_what_their_masks_say():
    data = load_masks("shapes")
    assert data.class_names == ("background", "disc", "square", "triangle", "cross")
    source = load_masks("shapes", split="source", test_split="source_test")
    for part, count in ((data.train, 400), (data.test, 300), (source.train, 400), (source.test, 300)):
        assert part.images.shape == (count, 32, 32, 1) and part.labels.shape == (count, 32, 32)
        shares = np.bincount(part.labels.ravel(), minlength=5) / part.labels.size
        assert len(shares) == 5 and shares[0] < 0.9 and shares[1:].min() > 0.02
    ground, shapes = (
        source.train.images[..., 0][source.train.labels == 0],
        source.train.images[..., 0][source.train.labels > 0],
    )
    assert shapes.mean() - ground.mean() > 80  # light on dark
    contrasts = [
        image[mask > 0].mean() - image[mask == 0].mean()
        for image, mask in zip(data.train.images[..., 0], data.train.labels, strict=True)
    ]
    assert (np.array(contrasts) > 20).mean() > 0.3 < (np.array(contrasts) < -20).mean()


def test_the_same_everywhere():
    digests = load_boxes("digits_detection").digest, load_masks("shapes").digest
    assert [digest[:16] for digest in digests] == ["5623fa2ca777fb83", "97398fcf167b8bfe"]


def test_sizes_and_slices():
    data = load_masks("shapes", split="source[:3]", image_size=(16, 64))
    assert data.train.images.shape == (3, 16, 64, 1) and data.train.labels.shape == (3, 16, 64)
    whole = load_masks("shapes", split="source[:3]").train.labels
    np.testing.assert_array_equal(data.train.labels, whole[:, 1::2].repeat(2, 2))
    part = load_boxes("digits_detection[:10]", image_size=20)
    assert part.train.images.shape == (10, 20, 20, 1) and part.train.labels.corners.shape == (10, 2, 4)
    with pytest.raises(InputError, match=r"source \(400 examples\), source_test \(300 examples\)"):
        load_masks("shapes", split="target")
