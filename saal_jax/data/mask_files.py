"""From a PNG of labels to classes: by index, by index of a palette, or by colour. 255 is void."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from saal_jax.data import image_files
from saal_jax.data.annotated import lines_of
from saal_jax.errors import InputError, one_line
from saal_jax.paths import open_file
from saal_jax.typing import ImageSize

VOID = 255
_NONE = 254  # what no class has
_VOID_NAMES = ("void", "unlabelled", "unlabeled")


class Table(NamedTuple):
    """The `names` of classes, and the class of each index in a file, uint8 [256], and of each colour (r, g, b)."""

    names: tuple[str, ...]
    of_index: np.ndarray
    of_colour: dict[tuple[int, ...], int]


def indexed(names: Sequence[str], classes: dict[int, int] | None = None) -> Table:
    """A table of indices 0..C-1, or of those that `classes` gives a class; 255 is void in each."""
    of_index = np.full(256, _NONE, np.uint8)
    of_index[VOID] = VOID
    for index, label in (classes or {label: label for label in range(len(names))}).items():
        of_index[index] = label
    return Table(tuple(names), of_index, {})


def read_table(path: Path) -> Table:
    """Classes in the order of a file's lines: a name, or a name and its colour in 0..255 (blanks or commas between).

    What is called void or unlabelled, with a colour, is void. Raises `InputError`.
    """
    names: list[str] = []
    colours: dict[tuple[int, ...], int] = {}
    for number, line in enumerate(lines_of(path)):
        words = [word.strip() for word in line.split(",")] if "," in line else line.rsplit(maxsplit=3)
        if number == 0 and [word.lower() for word in words[1:]] == ["r", "g", "b"]:
            continue
        has_colour = len(words) == 4 and all(word.isdecimal() for word in words[1:])
        name = words[0] if has_colour else line
        void = name.lower() in _VOID_NAMES
        if void and not has_colour:
            raise InputError(f"{path}: {name} is no class but the index {VOID}; remove the line, or give it a colour")
        if has_colour:
            colour = tuple(int(word) for word in words[1:])
            if max(colour) > 255 or colour in colours:
                why = "is outside 0..255" if max(colour) > 255 else "is that of another class"
                raise InputError(f"{path}: the colour {colour} of {name} {why}; correct it")
            colours[colour] = VOID if void else len(names)
        names += [] if void else [name]
    if colours and len(set(colours.values()) - {VOID}) < len(names):
        raise InputError(f"{path}: some classes have a colour and some have none; give each one, as `road 128 64 128`")
    if not 0 < len(names) < _NONE:
        raise InputError(f"{path}: lists {len(names)} classes; write the name of each on a line, at most {_NONE - 1}")
    return indexed(names)._replace(of_colour=colours)


def decode(path: Path, table: Table, size: tuple[int, int], image_size: ImageSize) -> np.ndarray:
    """The class of each pixel, uint8 [H, W], of a mask that must have the height and width `size`.

    Resized where `image_size` is given: a pixel takes the class of the one its centre lies in. Raises `InputError`.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=["PNG"]) as image:
            image.load()
    except Exception as error:  # damaged files raise all sorts
        raise InputError(
            f"{path}: no PNG of labels ({one_line(error)}); store labels as PNG, which loses nothing"
        ) from None
    if image.size[::-1] != size:
        of_mask, of_image = ("x".join(map(str, pair)) for pair in (image.size, size[::-1]))
        raise InputError(f"{path}: the mask is {of_mask} but its image is {of_image}; correct one of them")
    classes = _by_colour(path, image, table) if image.mode in ("RGB", "RGBA") else _by_index(path, image, table)
    return nearest(classes, image_files.height_and_width(image_size) or size)


def nearest(classes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask [H, W] of another shape; a centre on a border belongs to the pixel behind it, exactly."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(classes.shape, shape, strict=True))
    return classes[rows[:, None], columns]


def _by_index(path, image, table):
    values = np.asarray(image)
    if image.mode not in ("1", "L", "P", "I", "I;16"):
        raise InputError(f"{path}: a mask of mode {image.mode}; store indices, a palette or RGB")
    bits = _bits(path) if image.mode == "L" else 8
    values = values // (255 // (2**bits - 1)) if bits < 8 else values  # of grey, Pillow spreads them over 0..255
    classes = np.append(table.of_index, np.uint8(_NONE))[np.minimum(values, 256, dtype=np.int32)]
    _refuse_unknown(path, classes, values, f"is none of 0..{len(table.names) - 1}, or {VOID} for void")
    return classes


def _by_colour(path, image, table):
    if not table.of_colour:
        raise InputError(
            f"{path}: the mask is coloured, but the classes have no colours; add them to classes.txt: `road 128 64 128`"
        )
    pixels = np.asarray(image)[..., :3]
    numbers, where = np.unique(pixels @ np.array([2**16, 2**8, 1]), return_inverse=True)
    colours = [(number >> 16, number >> 8 & 255, number & 255) for number in numbers.tolist()]
    classes = np.array([table.of_colour.get(colour, _NONE) for colour in colours], np.uint8)[where]
    classes = classes.reshape(pixels.shape[:2])
    _refuse_unknown(path, classes, pixels, "is that of no class")
    return classes


def _refuse_unknown(path, classes, values, why):
    unknown = np.argwhere(classes == _NONE)
    if unknown.size:
        row, column = unknown[0].tolist()
        value = values[row, column].tolist()
        raise InputError(f"{path}: {value} at row {row}, column {column} {why}; correct it, or add the class")


def _bits(path):
    """Of a value in a PNG, by its header."""
    with open_file(path) as file:
        return file.read(25)[24]
