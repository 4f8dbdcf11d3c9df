"""Images and the boxes drawn on them: what the reader of each format returns, and what is checked of all alike."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from saal_jax.boxes import Boxes, padded
from saal_jax.data import image_files
from saal_jax.data.listed import files_below
from saal_jax.errors import InputError, one_line, warn
from saal_jax.paths import open_file


class Annotated(NamedTuple):
    """An image and its boxes: `corners` (x0, y0, x1, y1) of each in pixels, or in shares of width and height."""

    name: str
    path: Path | None  # none of an image that is no file of its own
    source: str  # what says so
    corners: list[tuple[float, float, float, float]]
    classes: list[str]
    crowd: list[bool]
    size: tuple[int, int] | None = None  # height and width, where the file says them
    in_shares: bool = False


Splits = dict[str, dict[str, Annotated]]  # by split and name


def corners_of(box: Sequence[Any], where: str, written: Any = None) -> tuple[float, float, float, float]:
    """The corners of `box`: x0, y0, width, height. Raises `InputError`, which quotes what is written."""
    value = shown(box if written is None else written)
    if len(box) != 4 or not all(isinstance(side, int | float) and not isinstance(side, bool) for side in box):
        raise InputError(f"{where}: box {value} is not four numbers; correct or remove it")
    if not all(abs(side) < 1e9 for side in box):  # nor NaN
        raise InputError(f"{where}: box {value} is not finite; correct or remove it")
    left, top, width, height = map(float, box)
    if width <= 0 or height <= 0:
        raise InputError(f"{where}: box {value} has no area; correct or remove it")
    return left, top, left + width, top + height


def shown(value: Any) -> str:
    """A value for an error line, cut where it is long."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def image_paths(folder: Path) -> dict[str, Path]:
    """The image files in a folder and all below it, by relative name; hidden ones are left out."""
    return {name: folder / name for name in sorted(files_below(folder, str(folder))) if image_files.is_image(name)}


def by_stem(paths: dict[str, Path]) -> dict[str, Path]:
    """The files by their names without suffix; `InputError` where two are then alike."""
    stems: dict[str, Path] = {}
    for name, path in paths.items():
        stem = name.removesuffix(path.suffix)
        if stem in stems:
            raise InputError(f"{path}: {stems[stem].name} is called the same but for its suffix; remove or rename one")
        stems[stem] = path
    return stems


def warn_of_unlabelled(where: str, names: Iterable[str]) -> None:
    """Says how many images are left out because nobody has drawn boxes on them."""
    if names := sorted(names):
        warn(f"{where}: {len(names)} images without annotations left out; the first is {names[0]}")


def boxes_of(images: Sequence[Annotated], sizes: np.ndarray, class_names: Sequence[str], where: str) -> Boxes:
    """Their boxes as shares of each image, which has the height and width `sizes[N, 2]`, in arrays [N, K, ...].

    Cuts boxes to the image. Raises `InputError` for one that lies outside it, or of a class that has no name.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    every, beyond = [], []
    for image, (height, width) in zip(images, sizes.tolist(), strict=True):
        here = f"{image.source}: image {image.name!r}"
        if image.size and image.size != (height, width):
            raise InputError(
                f"{here} is said to be {image.size[1]}x{image.size[0]} but is {width}x{height} (turned as its EXIF "
                "says); correct the annotation or the image"
            )
        unknown = [name for name in image.classes if name not in labels]
        if unknown:
            known = ", ".join(class_names)
            raise InputError(f"{here}: class {unknown[0]!r} is none of {known}; correct it, or add the class")
        corners = np.array(image.corners, float).reshape(-1, 2, 2)
        shares = corners if image.in_shares else corners / [width, height]
        inside = np.clip(shares, 0, 1).astype(np.float32)
        outside = ~(inside[:, 0] < inside[:, 1]).all(1)
        if outside.any():
            value = [round(float(value), 6) for value in corners[outside][0].ravel()]
            raise InputError(
                f"{here}: the box with corners {value} lies outside the image of {width}x{height} pixels; correct or "
                "remove it"
            )
        beyond += [here] * int((abs(shares - inside) * [width, height] > 1).any((1, 2)).sum())
        classes = np.array([labels[name] for name in image.classes], np.int32)
        every.append(Boxes(inside.reshape(-1, 4), classes, np.array(image.crowd, bool)))
    if beyond:
        warn(f"{where}: {len(beyond)} boxes that reach out of their image are cut; the first in {beyond[0]}")
    most = max(1, *(len(boxes.classes) for boxes in every))
    return Boxes(*map(np.stack, zip(*(padded(boxes, most) for boxes in every), strict=True)))


def text_of(path: Path) -> str:
    """What a text file holds; `InputError` where it is not UTF-8."""
    try:
        with open_file(path) as file:
            return file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); write it again, as UTF-8") from None


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that hold something, without blanks at their ends."""
    return [line.strip() for line in text_of(path).splitlines() if line.strip()]
