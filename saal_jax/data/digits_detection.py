"""Digits to be found: one or two of scikit-learn's, on noise of 40x40 pixels, made here from a fixed seed."""

import numpy as np

from saal_jax.boxes import Boxes
from saal_jax.data.slices import take_both

SIDE, SIZES = 40, (10, 20)  # of an image and of a glyph, in pixels
COUNTS = {"train": 400, "test": 300}
_MOST = 2  # digits in an image


def read(split: str, test_split: str):
    """400 training and 300 test images; no glyph is in both, as they are of the first two thirds and of the rest."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    cut = len(digits.target) * 2 // 3
    glyphs = {"train": slice(cut), "test": slice(cut, None)}
    parts = {
        part: _part(part, number, digits.images[glyphs[part]] / 16, digits.target[glyphs[part]])
        for number, part in enumerate(COUNTS)
    }
    return *take_both(parts, split, test_split, "digits_detection"), map(str, range(10))


def _part(part, number, glyphs, digits):
    count = COUNTS[part]
    images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
    boxes = Boxes(
        np.zeros((count, _MOST, 4), np.float32), np.full((count, _MOST), -1, np.int32), np.zeros((count, _MOST), bool)
    )
    for row in range(count):
        rng = np.random.default_rng([number, row])  # so that an image does not depend on how many there are
        images[row, ..., 0] = rng.integers(0, 64, (SIDE, SIDE))
        for k, (top, left, size) in enumerate(_places(rng)):
            chosen = rng.integers(len(glyphs))
            brightness = rng.integers(128, 256)
            glyph = enlarged(glyphs[chosen], size)
            window = images[row, top : top + size, left : left + size, 0]
            np.maximum(window, np.rint(brightness * glyph), out=window, casting="unsafe")
            rows, columns = np.nonzero(glyph > 0.25)
            corners = [left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1]
            boxes.corners[row, k], boxes.classes[row, k] = np.divide(corners, SIDE), digits[chosen]
    return images, boxes, np.array([f"digits_detection_{part}_{row:03d}" for row in range(count)])


def _places(rng):
    """Top, left and size of one or two squares that do not overlap."""
    count = rng.integers(1, _MOST + 1)
    while True:
        sizes = rng.integers(SIZES[0], SIZES[1] + 1, count)
        corners = rng.integers(0, SIDE - sizes + 1, (2, count)).T
        if count == 1 or (corners[0] + sizes[0] <= corners[1]).any() or (corners[1] + sizes[1] <= corners[0]).any():
            return [(*corner, size) for corner, size in zip(corners.tolist(), sizes.tolist(), strict=True)]


def enlarged(glyph: np.ndarray, size: int) -> np.ndarray:
    """A square picture with `size` rows and columns, linear between the centres of its pixels."""
    places = np.clip((np.arange(size) + 0.5) * len(glyph) / size - 0.5, 0, len(glyph) - 1)
    first = np.minimum(places.astype(int), len(glyph) - 2)
    rest = places - first
    rows = glyph[first] * (1 - rest)[:, None] + glyph[first + 1] * rest[:, None]
    return rows[:, first] * (1 - rest) + rows[:, first + 1] * rest
