"""From image files to one array."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from saal_jax.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # more than 8 bits a pixel: converting would clip


def decode(file, channels: int, where: str) -> np.ndarray:
    """Decodes an image file (path or file object) to uint8 [H, W, channels]; `where` names it in errors."""
    try:
        with Image.open(file) as image:
            if image.mode not in DEEP:
                pixels = np.asarray(image if image.mode == MODES[channels] else image.convert(MODES[channels]))
                return pixels.reshape(*pixels.shape[:2], channels)
    except Exception as error:  # damaged files raise OSError, SyntaxError, struct.error, ... by format
        raise InputError(f"{where}: cannot read the image ({one_line(error)}); replace or remove it") from None
    raise InputError(f"{where}: the image has more than 8 bits per channel; store it with 8")


def stack(images: Iterable[np.ndarray], names: list[str], where: str) -> np.ndarray:
    """One array [N, H, W, C] of as many images as there are `names`; `InputError` at the first of another shape."""
    stacked = None
    for i, image in enumerate(images):
        if stacked is None:
            stacked = np.empty((len(names), *image.shape), np.uint8)
        if image.shape != stacked.shape[1:]:
            raise InputError(
                f"{where}: image {names[i]!r} is {_shape(image)} but {names[0]!r} is {_shape(stacked[0])}; "
                "resize the images to one shape"
            )
        stacked[i] = image
    return stacked


def one_line(error: Exception) -> str:
    """The message of a library's error, fit to be quoted in ours."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _shape(image):
    return "x".join(map(str, image.shape))
