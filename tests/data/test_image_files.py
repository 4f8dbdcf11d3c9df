"""Resizing, against what can be worked out by hand and against Pillow's own pictures."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from saal_jax.data import image_files
from saal_jax.errors import InputError

from . import custom


def row(*values):
    """An image [1, 1, W, 1] of one row."""
    return np.array(values, np.uint8)[None, None, :, None]


def test_resize_by_hand():
    # of a square of four pixels each has the same weight
    assert image_files.resize(np.array([0, 100, 200, 100], np.uint8).reshape(1, 2, 2, 1), 1).tolist() == [[[[100]]]]
    # halved, a triangle two pixels wide to each side weighs four pixels 3, 3, 1, 0: the edge is not cut off
    halved = image_files.resize(row(0, 0, 255, 255), 2)
    assert halved[0, :, :, 0].tolist() == [[round(255 / 7), round(255 * 6 / 7)]] * 2
    # doubled, a new pixel lies a quarter of the way between two old ones
    assert image_files.resize(row(0, 100), 4)[0, :, :, 0].tolist() == [[0, 25, 75, 100]] * 4


def test_resize_leaves_alone_what_fits():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    assert image_files.resize(pictures, 5) is pictures and image_files.resize(pictures, None) is pictures


@pytest.mark.parametrize("kind, channels", [("L", 1), ("RGB", 3)])
def test_resize_is_pillows_for_each_image_and_channel(kind, channels):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 9, 13, channels), np.uint8)
    for picture, got in zip(pictures, image_files.resize(pictures, 6), strict=True):
        image = Image.fromarray(picture.squeeze()).resize((6, 6), Image.Resampling.BILINEAR)
        assert image.mode == kind
        np.testing.assert_array_equal(got.squeeze(), np.asarray(image))


def test_height_and_width_each_have_their_own_size():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 9, 13, 3), np.uint8)
    got = image_files.resize(pictures, (4, 7))
    assert got.shape == (2, 4, 7, 3)
    image = Image.fromarray(pictures[1]).resize((7, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(got[1], np.asarray(image))
    assert image_files.resize(pictures, (9, 13)) is pictures


def test_the_size_of_a_photo_is_that_of_how_it_stands(tmp_path):
    for orientation in range(1, 9):
        turned = Image.Exif()
        turned[0x0112] = orientation
        Image.fromarray(custom.flat(7, (6, 4, 3))).save(tmp_path / "a.jpg", exif=turned)
        assert image_files.size_of(tmp_path / "a.jpg") == image_files.decode(tmp_path / "a.jpg", 3, None, "").shape[:2]
    (tmp_path / "a.jpg").write_text("")
    with pytest.raises(InputError, match="a.jpg: cannot read the image"):
        image_files.size_of(tmp_path / "a.jpg")


@pytest.mark.parametrize("image_size", [0, -3, 2.0, "8", True, (4, 0), (4, 5, 6), (4,), (4, 2.0)])
def test_a_size_that_is_none(image_size):
    with pytest.raises(InputError, match=rf"image_size is {re.escape(repr(image_size))}; give a whole number"):
        image_files.resize(np.zeros((1, 2, 2, 3), np.uint8), image_size)


def test_decode_converts_before_it_resizes(tmp_path):
    """Neighbouring numbers of a palette are not neighbouring colours."""
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png")
    assert image_files.decode(tmp_path / "palette.png", 3, 1, "here").tolist() == [[[128, 0, 128]]]
    (tmp_path / "whole.png").write_bytes(custom.encoded(custom.flat(7)))
    assert image_files.decode(tmp_path / "whole.png", 3, None, "here").shape == (4, 4, 3)


def pixels(path, channels=3):
    return image_files.decode(path, channels, None, "here").tolist()


BLACK, WHITE, GREY = [0] * 3, [255] * 3, [127] * 3


@pytest.mark.parametrize("format", ["png", "webp", "tif"])
def test_transparency_is_laid_over_white(tmp_path, format):
    colours = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 128], [9, 8, 7, 255]]], np.uint8)
    Image.fromarray(colours).save(
        tmp_path / f"a.{format}", **({"lossless": True, "exact": True} if format == "webp" else {})
    )
    assert pixels(tmp_path / f"a.{format}") == [[WHITE, BLACK, GREY, [9, 8, 7]]]
    assert pixels(tmp_path / f"a.{format}", 4) == colours.tolist()  # where the data set has four channels


def test_transparent_grey_and_palette(tmp_path):
    grey = np.array([[[0, 0], [0, 255], [0, 128], [9, 255]]], np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "la.png")
    assert image_files.is_grey(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png", 1) == [[[255], [0], [127], [9]]]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    palette.save(tmp_path / "p.png", transparency=1)
    palette.save(tmp_path / "p.gif", transparency=1)
    for name in ("p.png", "p.gif"):
        assert pixels(tmp_path / name) == [[[255, 0, 0], WHITE, [0, 255, 0]]]
    Image.fromarray(np.array([[0, 7]], np.uint8)).save(tmp_path / "l.png", transparency=7)
    assert pixels(tmp_path / "l.png", 1) == [[[0], [255]]]
    Image.fromarray(np.array([[[0, 0, 0], [7, 8, 9]]], np.uint8)).save(tmp_path / "rgb.png", transparency=(7, 8, 9))
    assert pixels(tmp_path / "rgb.png") == [[BLACK, WHITE]]


@pytest.mark.parametrize("format", ["png", "tif"])
def test_sixteen_bits_of_grey_are_divided_by_257(tmp_path, format):
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 3  # by half a turn
    Image.fromarray(values).save(tmp_path / f"a.{format}", exif=turned)
    assert image_files.is_grey(tmp_path / f"a.{format}")
    assert pixels(tmp_path / f"a.{format}", 1) == [[[v] for v in (255, 255, 254, 128, 1, 1, 0, 0)]]
    assert pixels(tmp_path / f"a.{format}")[0][3] == [128] * 3


def test_sixteen_bits_with_a_transparent_value(tmp_path):
    Image.fromarray(np.array([[0, 257, 514]], np.uint16)).save(tmp_path / "a.png", transparency=257)
    assert pixels(tmp_path / "a.png", 1) == [[[0], [255], [2]]]


def test_the_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (10, 200)]
    for name in ("a.gif", "a.tif", "a.png", "a.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(pixels(tmp_path / name), np.full((2, 2, 3), 10)), name


def test_a_postscript_file_starts_no_program(tmp_path, monkeypatch):
    """Pillow would have Ghostscript draw it, whatever its suffix."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **_: started.append(args))
    with pytest.raises(InputError, match="here: cannot read the image"):
        image_files.decode(tmp_path / "a.png", 3, None, "here")
    assert image_files.is_grey(tmp_path / "a.png") and not started


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def declared(width, height):
    """A PNG file that declares so many pixels and holds none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_decompression_bomb(tmp_path):
    (tmp_path / "a.png").write_bytes(declared(60_000, 60_000))
    with pytest.raises(InputError, match="3600000000 pixels"):
        image_files.decode(tmp_path / "a.png", 3, None, "here")
    assert image_files.is_grey(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image at all")
    with pytest.raises(InputError, match="here: cannot read the image .it is no PNG, JPEG, WEBP, TIFF, BMP or GIF"):
        image_files.decode(tmp_path / "b.png", 3, None, "here")


def tiff(bits, samples, *, photometric=1, sample_format=1):
    """An uncompressed grey TIFF file of one row."""
    width = len(samples) * 8 // bits
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: 1, 279: len(samples)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(134, b"\0") + samples


def test_tiff_files_of_every_kind_of_sample(tmp_path):
    path, deep = tmp_path / "a.tif", struct.pack("<3H", 0, 257, 65535)
    for content, expected in (
        (tiff(16, deep), [0, 1, 255]),
        (tiff(16, deep, photometric=0), [255, 254, 0]),  # counted from white
        (tiff(8, bytes([0, 7, 255])), [0, 7, 255]),
        (tiff(8, bytes([0, 7, 255]), photometric=0), [255, 248, 0]),
        (tiff(4, bytes([0x0F])), [0, 255]),
    ):
        path.write_bytes(content)
        assert pixels(path, 1) == [[[value] for value in expected]]
    for content in (tiff(12, bytes([255] * 3)), tiff(8, bytes(3), sample_format=2), tiff(16, deep, sample_format=2)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="store it with unsigned 8 or 16 bits"):
            image_files.decode(path, 1, None, "here")
