"""Resizing, against what can be worked out by hand and against Pillow's own pictures."""

import numpy as np
import pytest
from PIL import Image

from saal_jax.data import images
from saal_jax.errors import InputError

from . import custom


def row(*values):
    """An image [1, 1, W, 1] of one row."""
    return np.array(values, np.uint8)[None, None, :, None]


def test_resize_by_hand():
    # of a square of four pixels each has the same weight
    assert images.resize(np.array([0, 100, 200, 100], np.uint8).reshape(1, 2, 2, 1), 1).tolist() == [[[[100]]]]
    # halved, a triangle two pixels wide to each side weighs four pixels 3, 3, 1, 0: the edge is not cut off
    halved = images.resize(row(0, 0, 255, 255), 2)
    assert halved[0, :, :, 0].tolist() == [[round(255 / 7), round(255 * 6 / 7)]] * 2
    # doubled, a new pixel lies a quarter of the way between two old ones
    assert images.resize(row(0, 100), 4)[0, :, :, 0].tolist() == [[0, 25, 75, 100]] * 4


def test_resize_leaves_alone_what_fits():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    assert images.resize(pictures, 5) is pictures and images.resize(pictures, None) is pictures


@pytest.mark.parametrize("kind, channels", [("L", 1), ("RGB", 3)])
def test_resize_is_pillows_for_each_image_and_channel(kind, channels):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 9, 13, channels), np.uint8)
    for picture, got in zip(pictures, images.resize(pictures, 6), strict=True):
        image = Image.fromarray(picture.squeeze()).resize((6, 6), Image.Resampling.BILINEAR)
        assert image.mode == kind
        np.testing.assert_array_equal(got.squeeze(), np.asarray(image))


@pytest.mark.parametrize("image_size", [0, -3, 2.0, "8"])
def test_a_size_that_is_none(image_size):
    with pytest.raises(InputError, match=rf"image_size is {image_size!r}; give a whole number"):
        images.resize(np.zeros((1, 2, 2, 3), np.uint8), image_size)


def test_decode_converts_before_it_resizes(tmp_path):
    """Neighbouring numbers of a palette are not neighbouring colours."""
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png")
    assert images.decode(tmp_path / "palette.png", 3, 1, "here").tolist() == [[[128, 0, 128]]]
    (tmp_path / "whole.png").write_bytes(custom.encoded(custom.flat(7)))
    assert images.decode(tmp_path / "whole.png", 3, None, "here").shape == (4, 4, 3)
