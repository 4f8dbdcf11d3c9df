"""Discs, squares, triangles and crosses on shaded noise of 32x32 pixels, each pixel labelled, made from a fixed seed.

There are two domains: light shapes on dark ground (`source`, `source_test`), and shapes a little darker or lighter than
a noisier ground of medium brightness (`train`, the target's pool, and `test`).
"""

from typing import NamedTuple

import numpy as np

from saal_jax.data.slices import take_both

NAMES = ("background", "disc", "square", "triangle", "cross")
SIDE = 32
COUNTS = {"train": 400, "test": 300, "source": 400, "source_test": 300}


class Domain(NamedTuple):
    """Levels of grey, each from a range: of the ground, of shapes against it (either sign if `both`), of the noise."""

    ground: tuple[int, int]
    contrast: tuple[int, int]
    noise: int
    both: bool


SOURCE = Domain((40, 80), (90, 140), 20, False)
TARGET = Domain((100, 140), (50, 90), 40, True)
DOMAINS = {"train": TARGET, "test": TARGET, "source": SOURCE, "source_test": SOURCE}


def read(split: str, test_split: str):
    """Two of the splits, or slices of them, and the names of the classes."""
    parts = {part: _part(part, number) for number, part in enumerate(COUNTS)}
    return *take_both(parts, split, test_split, "shapes"), NAMES


def _part(part, number):
    drawn = [_drawn(np.random.default_rng([number, row]), DOMAINS[part]) for row in range(COUNTS[part])]
    images, masks = map(np.stack, zip(*drawn, strict=True))
    return images[..., None], masks, np.array([f"shapes_{part}_{row:03d}" for row in range(len(images))])


def _drawn(rng, domain):
    """An image and its mask: one to three shapes, of which a later one covers an earlier one."""
    rows, columns = np.indices((SIDE, SIDE))
    slope = rng.integers(-20, 21, 2)
    shade = (slope[0] * (rows - SIDE // 2) + slope[1] * (columns - SIDE // 2)) // SIDE
    ground = rng.integers(*domain.ground) + shade
    grey = ground
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(1, 4)):
        label, radius = rng.integers(1, len(NAMES)), rng.integers(4, 8)
        top, left = rng.integers(radius, SIDE - radius, 2)
        inside = SHAPES[label - 1](rows - top, columns - left, radius)
        contrast = rng.integers(*domain.contrast) * (-1 if domain.both and rng.integers(2) else 1)
        grey = np.where(inside, ground + contrast, grey)
        mask[inside] = label
    noise = rng.integers(-domain.noise, domain.noise + 1, (SIDE, SIDE))
    return np.clip(grey + noise, 0, 255).astype(np.uint8), mask


def _disc(y, x, radius):
    return y**2 + x**2 <= radius**2


def _square(y, x, radius):
    return np.maximum(abs(y), abs(x)) < radius


def _triangle(y, x, radius):
    return (abs(y) <= radius) & (2 * abs(x) <= y + radius)


def _cross(y, x, radius):
    return (np.maximum(abs(y), abs(x)) <= radius) & (np.minimum(abs(y), abs(x)) <= radius // 3)


SHAPES = (_disc, _square, _triangle, _cross)
