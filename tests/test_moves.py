"""Where things in an image go: rectangles that are drawn, outlined and boxed move together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import preprocessing
from saal_jax.moves import MOVES, VOID, Move, moved, moved_corners, moved_masks

HEIGHT, WIDTH, MANY = 40, 56, 60
OPTIONS = {"none": {}, "crop_and_flip": {"padding": 6}, "scale_and_flip": {"smallest": 0.6, "largest": 1.6}}
every_move = pytest.mark.parametrize("name", MOVES)


@functools.cache
def rectangles():
    """White rectangles on grey as images, masks of class 1 on 0, and boxes `[MANY, 1, 4]`."""
    generator = np.random.default_rng(0)
    images = np.full((MANY, HEIGHT, WIDTH, 1), 100, np.uint8)
    masks, corners = np.zeros((MANY, HEIGHT, WIDTH), np.uint8), np.zeros((MANY, 1, 4), np.float32)
    for image, mask, box in zip(images, masks, corners, strict=True):
        top, left = generator.integers(0, HEIGHT - 12), generator.integers(0, WIDTH - 12)
        bottom, right = generator.integers(top + 8, HEIGHT), generator.integers(left + 8, WIDTH)
        image[top:bottom, left:right] = 200
        mask[top:bottom, left:right] = 1
        box[0] = left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT
    return images, masks, corners


@functools.cache
def all_moved(name):
    images, masks, corners = rectangles()

    @jax.jit
    def move(key):
        each = MOVES[name](key, images, **OPTIONS[name])
        return each, moved(images, each), moved_masks(masks, each), moved_corners(corners, each, HEIGHT, WIDTH)

    return jax.device_get(move(jax.random.key(1)))


@every_move
def test_a_mask_is_that_of_the_moved_image(name):
    """Of an image of the classes' values it is the rounded one, except between two of them and at the border."""
    _, images, masks, _ = all_moved(name)
    images, clear = images[..., 0], np.isin(images[..., 0], (0, 100, 200))
    assert clear.mean() > 0.85
    of_image = np.select([images == 200, images == 100], [1, 0], VOID)
    np.testing.assert_array_equal(masks[clear], of_image[clear])
    # Half a pixel decides elsewhere: it is of the nearer of the two, which has the larger share along each side.
    halves = np.select([images > 150, images > 50], [1, 0], VOID)
    assert (masks == halves).mean() > 0.99


@every_move
def test_a_box_is_the_extent_of_the_moved_rectangle(name):
    _, images, masks, corners = all_moved(name)
    seen = 0
    for image, mask, (box,) in zip(images[..., 0], masks, corners, strict=True):
        box = np.clip(box, 0, 1) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
        for there in (image > 150, mask == 1):
            rows, columns = np.nonzero(there.any(1))[0], np.nonzero(there.any(0))[0]
            if len(rows) == 0:
                assert min(box[2] - box[0], box[3] - box[1]) < 1
                continue
            extent = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            np.testing.assert_allclose(box, extent, atol=1e-4 if name != "scale_and_flip" else 0.75)
            seen += 1
    assert seen > MANY


@every_move
def test_void_comes_in_where_black_does(name):
    moves, images, masks, _ = all_moved(name)
    black, void = images[..., 0] == 0, masks == VOID
    assert void[black].all()
    # Within half a pixel of the image the nearest is one of its own, though some black is mixed in.
    shares = images[..., 0].astype(float)[void] / 200
    assert (shares < 0.5).all() if void.any() else name == "none"
    if name == "scale_and_flip":  # it shrinks some images and enlarges others: these stay full
        assert not void[moves.scale > 1.01].any() and void[moves.scale < 0.95].any((1, 2)).all()


def test_of_a_scaled_image_and_the_frame_the_smaller_is_within_the_other():
    images = np.zeros((1000, HEIGHT, WIDTH, 1), np.uint8)
    moves = MOVES["scale_and_flip"](jax.random.key(0), images)
    whole = np.broadcast_to(np.float32([0, 0, 1, 1]), (1000, 1, 4))
    low, high = np.split(np.asarray(moved_corners(whole, moves, HEIGHT, WIDTH))[:, 0], 2, axis=1)
    smaller = np.asarray(moves.scale)[:, None] < 1
    ends = np.where(smaller, low, -low), np.where(smaller, 1 - high, high - 1)
    assert min(ends[0].min(), ends[1].min()) > -1e-5
    assert max(np.quantile(end, 0.01) for end in ends) < 0.01 and max(end.max() for end in ends) > 0.2


def test_every_kind_of_move_occurs():
    for name in ("crop_and_flip", "scale_and_flip"):
        moves = all_moved(name)[0]
        assert 0.3 < moves.flipped.mean() < 0.7
    scales = all_moved("scale_and_flip")[0].scale
    assert scales.min() < 0.7 and scales.max() > 1.4 and scales.min() >= 0.6 and scales.max() <= 1.6
    assert abs(np.log(scales).mean() - np.log(0.6 * 1.6) / 2) < 0.15  # uniform in the logarithm
    shifts = all_moved("crop_and_flip")[0]
    assert set(np.unique(shifts.top)) == set(np.unique(shifts.left)) == set(range(-6, 7))


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_crop_and_flip_is_that_of_classification_bit_for_bit(padding, seed):
    images = np.random.default_rng(seed).integers(0, 256, (50, 9, 12, 3)).astype(np.uint8)
    key = jax.random.key(seed)
    ours = moved(images, MOVES["crop_and_flip"](key, images, padding=padding))
    np.testing.assert_array_equal(ours, preprocessing.crop_and_flip(key, images, padding=padding))


@every_move
def test_augmentations_of_a_name_move_the_image_so(name):
    images, key = rectangles()[0], jax.random.key(2)
    expected = preprocessing.AUGMENTATIONS[name](key, images, **OPTIONS[name])
    np.testing.assert_array_equal(moved(images, MOVES[name](key, images, **OPTIONS[name])), expected)


def test_a_move_by_hand():
    """Mirrored, twice as large, from half a pixel above and a pixel and a half to the right on."""
    image = np.uint8([[0, 40, 80, 120], [160, 200, 240, 20]])[None, :, :, None]
    move = Move(*(jnp.array([value]) for value in (True, 2.0, -0.5, 1.5)))
    # The mirrored rows are 120 80 40 0 and 20 240 200 160; seen from column 1.5 on in steps of a half.
    expected = [[30, 20, 10, 0], [60, 40, 20, 0]]
    np.testing.assert_array_equal(moved(image, move)[0, :, :, 0], expected)
    mask = np.uint8([[0, 1, 2, 3], [4, 5, 6, 7]])[None]
    np.testing.assert_array_equal(moved_masks(mask, move)[0], [[1, 1, 0, 0], [1, 1, 0, 0]])
    # The pixel of 40, columns 1 to 2 and the first row, is mirrored to 2 to 3; its far corners are these.
    corners = jnp.array([[[1 / 4, 0, 2 / 4, 1 / 2]]])
    found = moved_corners(corners, move, 2, 4)[0, 0] * jnp.array([4, 2, 4, 2])
    np.testing.assert_allclose(found, [0.5, 0.5, 2.5, 2.5])
