"""From image files to one array."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from saal_jax.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # more than 8 bits a pixel: converting would clip


def decode(file, channels: int, image_size: int | None, where: str, *, upright: bool = False) -> np.ndarray:
    """Decodes an image file (path or file object) to uint8 [H, W, channels], resized where `image_size` is given.

    `where` names the image in errors; `upright` turns it as its EXIF orientation says.
    """
    try:
        with Image.open(file) as image:
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            deep = image.mode in DEEP
            pixels = np.asarray(image if deep or image.mode == MODES[channels] else image.convert(MODES[channels]))
    except Exception as error:  # damaged files raise OSError, SyntaxError, struct.error, ... by format
        raise InputError(f"{where}: cannot read the image ({one_line(error)}); replace or remove it") from None
    if deep:
        raise InputError(f"{where}: the image has more than 8 bits per channel; store it with 8")
    return resize(pixels.reshape(1, *pixels.shape[:2], channels), image_size)[0]


def resize(images: np.ndarray, image_size: int | None) -> np.ndarray:
    """uint8 [N, H, W, C] to [N, image_size, image_size, C], bilinear with antialiasing; as they are for `None`.

    Height and width are scaled each by its own factor: nothing is cropped, nothing is added.
    """
    if image_size is None:
        return images
    if not isinstance(image_size, int) or image_size < 1:
        raise InputError(f"image_size is {image_size!r}; give a whole number of pixels, or None for images as they are")
    if images.shape[1:3] == (image_size, image_size):
        return images
    resized = np.empty((len(images), image_size, image_size, images.shape[3]), np.uint8)
    for i, channel in np.ndindex(len(images), images.shape[3]):
        image = Image.fromarray(images[i, ..., channel])
        resized[i, ..., channel] = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return resized


def stack(images: Iterable[np.ndarray], names: list[str], where: str) -> np.ndarray:
    """One array [N, H, W, C] of as many images as there are `names`; `InputError` at the first of another shape."""
    stacked = None
    for i, image in enumerate(images):
        if stacked is None:
            stacked = np.empty((len(names), *image.shape), np.uint8)
        if image.shape != stacked.shape[1:]:
            raise InputError(
                f"{where}: image {names[i]!r} is {_shape(image)} but {names[0]!r} is {_shape(stacked[0])}; "
                "give an image_size, to resize all to one shape"
            )
        stacked[i] = image
    return stacked


def one_line(error: Exception) -> str:
    """The message of a library's error, fit to be quoted in ours."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _shape(image):
    return "x".join(map(str, image.shape))
