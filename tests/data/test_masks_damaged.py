"""Masks that cannot be used: one line each, with the file and the value."""

import numpy as np
import pytest
from PIL import Image

from saal_jax.data import load_masks
from saal_jax.errors import InputError

from . import drawn
from .refusals import refusal
from .test_masks_formats import NAMES, coloured, plain, save, voc


@pytest.fixture
def streets(tmp_path):
    plain(tmp_path / "streets")
    return tmp_path / "streets"


@pytest.fixture
def refused(tmp_path):
    """Loads the streets, which must raise an `InputError` of one line that contains all of `words`."""

    def check(*words, **arguments):
        arguments["cache_dir"] = str(tmp_path / "cache")
        message = refusal(load_masks, str(tmp_path / "streets"), *words, **arguments)
        assert len(message) < 500
        return message

    return check


def values(*changes):
    array = np.zeros((12, 16), np.uint8)
    for row, column, value in changes:
        array[row, column] = value
    return array


@pytest.mark.parametrize(
    "array, words",
    [
        (values((3, 4, 19)), ["19 at row 3, column 4 is none of 0..18, or 255 for void"]),
        (values((3, 4, 254)), ["254 at row 3, column 4"]),
        (values().astype(np.uint16) + 256, ["256 at row 0, column 0 is none of 0..18"]),
        (np.zeros((16, 12), np.uint8), ["the mask is 12x16 but its image is 16x12"]),
        (np.zeros((12, 16, 3), np.uint8), ["the mask is coloured, but the classes have no colours"]),
        (np.zeros((12, 16, 2), np.uint8), ["a mask of mode LA; store indices, a palette or RGB"]),
    ],
)
def test_values(streets, refused, array, words):
    save(streets / "test/labels/e.png", array)
    refused(streets / "test/labels/e.png", *words)


def test_a_colour_of_no_class(tmp_path, refused):
    coloured(tmp_path / "streets")
    path = tmp_path / "streets/test/labels/e.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[5, 6] = 1, 2, 3
    save(path, pixels)
    refused(path, "[1, 2, 3] at row 5, column 6 is that of no class")


def test_what_is_no_png(streets, refused):
    path = streets / "test/labels/e.png"
    Image.fromarray(values()).save(path, "JPEG")
    refused(path, "no PNG of labels", "store labels as PNG")
    path.write_bytes(b"")
    refused(path, "no PNG of labels")
    save(path, values())
    path.write_bytes(path.read_bytes()[:45])
    refused(path, "no PNG of labels")
    path.unlink()
    path.mkdir()
    refused("no mask 'e'")


def test_what_has_no_partner(streets, refused):
    (streets / "test/labels/e.png").rename(streets / "test/labels/g.png")
    refused(streets / "test/images/e.png", "no mask 'e' in", "test/labels")
    save(streets / "test/labels/e.png", values())
    refused(streets / "test/labels/g.png", "no image 'g' in", "test/images")


def test_images_that_cannot_be_read(streets, refused):
    (streets / "test/images/e.png").write_bytes(b"")
    refused(streets / "test/images/e.png", "cannot read the image")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["lists 0 classes"]),
        ("\n".join(f"c{i}" for i in range(254)), ["lists 254 classes", "at most 253"]),
        ("road\nroad", ["two of the class names are the same"]),
        ("road 1 2 3\ncar 1 2 3", ["the colour (1, 2, 3) of car is that of another class"]),
        ("road 1 2 256", ["the colour (1, 2, 256) of road is outside 0..255"]),
        ("road 1 2 3\ncar", ["some classes have a colour and some have none"]),
        ("road\nvoid", ["void is no class but the index 255"]),
    ],
)
def test_tables(streets, refused, text, words):
    for path in streets.glob("*/labels/*.png"):
        save(path, values())
    drawn.write(streets / "classes.txt", text)
    refused(*words)


def test_no_table(streets, refused):
    (streets / "classes.txt").unlink()
    refused("no names of classes; add classes.txt")


@pytest.mark.parametrize(
    "row, words",
    [
        ("g,test,pool", ["line 2: no image 'g' in split 'test'"]),
        ("e,val,pool", ["line 2: no image 'e' in split 'val'"]),
        ("e,test,train", ["line 2: role 'train' is another split's name"]),
    ],
)
def test_roles(streets, refused, row, words):
    drawn.write(streets / "images.csv", f"name,split,role\n{row}\n")
    refused(streets / "images.csv", *words)


def test_roles_without_columns(streets, refused):
    drawn.write(streets / "images.csv", "name,split\ne,test\n")
    refused("lacks one of the columns name, split, role")
    drawn.write(streets / "images.csv", "name,split,role\ne\n")
    refused("line 2: no image 'e' in split None")


def test_lists_of_voc(tmp_path, refused):
    voc(tmp_path / "streets")
    drawn.write(tmp_path / "streets/ImageSets/Segmentation/test.txt", "e\ng\n")
    refused("JPEGImages: no file 'g', which test lists")
    (tmp_path / "streets/SegmentationClass/e.png").unlink()
    drawn.write(tmp_path / "streets/ImageSets/Segmentation/test.txt", "e\n")
    refused("SegmentationClass: no file 'e', which test lists")


def test_classes_without_a_pixel_are_named(streets, tmp_path):
    for path in streets.glob("*/labels/*.png"):
        save(path, np.where(np.asarray(Image.open(path)) == 7, 255, 0).astype(np.uint8))
    with pytest.warns(UserWarning) as said:
        load_masks(str(streets), cache_dir=str(tmp_path / "cache"))
    (message,) = {str(warning.message) for warning in said}
    assert message.endswith(f"train: no pixel is of the classes {', '.join(NAMES[1:9])}, ...")
    assert {warning.filename for warning in said} == {__file__}


def test_where_there_is_nothing(tmp_path, refused):
    (tmp_path / "streets").mkdir()
    message = refused("holds no masks; lay it out as {train,test}/images/NAME.jpg")
    assert "gtFine" in message and "SegmentationClass" in message
    with pytest.raises(InputError, match="https://github.com/alexgkendall.*/camvid/ with {train,test}/images"):
        load_masks("camvid", data_dir=str(tmp_path))
