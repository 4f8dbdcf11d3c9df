"""From image files to one array. One rule for every image that enters, whatever it comes from.

PNG, JPEG, WebP, TIFF and BMP files and the first frame of GIF files; turned as their EXIF orientation says;
transparency laid over white; 16-bit grey divided by 257 (of 16 bits in colour, or with transparency, Pillow keeps the
upper 8). Which format it is says the content, not the suffix.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from saal_jax.engine.memory import machine_bytes
from saal_jax.errors import InputError, one_line
from saal_jax.paths import open_file
from saal_jax.typing import ImageSize

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # Pillow knows others, of which one starts Ghostscript
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # more than 8 bits a pixel: converting would clip
_GREY = ("1", "L", "LA", "La", *_DEEP)
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_ORIENTATION = 274  # of EXIF


def is_image(name: str) -> bool:
    """Whether a file is one by its name."""
    return name.lower().endswith(SUFFIXES)


def decode(file: Any, channels: int, image_size: ImageSize, where: str) -> np.ndarray:
    """Decodes an image file (path or file object) to uint8 [H, W, channels], resized where `image_size` is given.

    `where` names the image in errors. Transparency is kept where `channels` is 4.
    """
    try:
        with _opened(file) as image:
            white_is_zero = image.format == "TIFF" and _white_is_zero(image.tag_v2)
            ImageOps.exif_transpose(image, in_place=True)
            image = _eight_bits(image, white_is_zero)
            if channels < 4 and image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            pixels = np.asarray(image if image.mode == MODES[channels] else image.convert(MODES[channels]))
    except Exception as error:  # damaged files raise OSError, SyntaxError, struct.error, ... by format
        raise InputError(f"{where}: cannot read the image ({one_line(error)}); replace or remove it") from None
    return resize(pixels.reshape(1, *pixels.shape[:2], channels), image_size)[0]


def is_grey(path: Path) -> bool:
    """Whether an image file holds shades of grey, by its header; True where it cannot be read: `decode` says why."""
    try:
        with _opened(path) as image:
            return image.mode in _GREY
    except Exception:
        return True


@contextlib.contextmanager
def _opened(file):
    """The image in a file, of which only the header is read; Pillow refuses more than 179 million pixels."""
    with contextlib.ExitStack() as opened:
        if isinstance(file, str | os.PathLike):
            file = opened.enter_context(open_file(file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # half as many are a large photo
            try:
                image = Image.open(file, formats=FORMATS)
            except UnidentifiedImageError:
                raise ValueError(f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
        yield opened.enter_context(image)


def _white_is_zero(tags):
    """Whether a TIFF's grey counts from white; refuses samples that Pillow would read as other numbers."""
    bits, formats = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
    if not set(bits) <= {1, 2, 4, 8, 16} or not set(formats) <= {1}:
        raise ValueError(f"its samples have {bits[0]} bits, or a sign or a point: store it with unsigned 8 or 16 bits")
    return tags.get(_PHOTOMETRIC) == 0


def _eight_bits(image, white_is_zero):
    """The image with 8 bits a channel: what has 16 is divided by 257, to the nearest."""
    if image.mode not in _DEEP:
        return image
    values = np.asarray(image)
    values = 65535 - values if white_is_zero else values
    grey = Image.fromarray(np.rint(values / 257).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def size_of(file: Any, where: str = "") -> tuple[int, int]:
    """Height and width of an image file, once it is turned as its EXIF orientation says, by its header.

    `where` names the image in errors, if not its path.
    """
    try:
        with _opened(file) as image:
            turned = image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
            return image.size if turned else image.size[::-1]
    except Exception as error:
        raise InputError(f"{where or file}: cannot read the image ({one_line(error)}); replace or remove it") from None


def resize(images: np.ndarray, image_size: ImageSize) -> np.ndarray:
    """uint8 [N, H, W, C] to [N, height, width, C], bilinear with antialiasing; as they are for `None`.

    `image_size` is both, or `(height, width)`. Each axis is scaled by its own factor: nothing is cropped or added.
    """
    shape = height_and_width(image_size)
    if shape is None or images.shape[1:3] == shape:
        return images
    resized = _empty((len(images), *shape, images.shape[3]))
    for i, channel in np.ndindex(len(images), images.shape[3]):
        image = Image.fromarray(images[i, ..., channel])
        resized[i, ..., channel] = image.resize(shape[::-1], Image.Resampling.BILINEAR)
    return resized


def height_and_width(image_size: ImageSize) -> tuple[int, int] | None:
    """Both in pixels; `InputError` for what is no size."""
    if image_size is None:
        return None
    shape = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(shape) != 2 or any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in shape):
        raise InputError(
            f"image_size is {image_size!r}; give a whole number of pixels, or two as (height, width), or None for "
            "images as they are"
        )
    return shape  # type: ignore[return-value]


def stack(images: Iterable[np.ndarray], names: list[str], where: str) -> np.ndarray:
    """One array [N, H, W, C] of as many images as there are `names`; `InputError` at the first of another shape."""
    stacked: Any = None
    for i, block in enumerate(blocks(images, names, where)):
        if stacked is None:
            stacked = _empty((len(names), *block.shape[1:]))
        stacked[i : i + 1] = block
    return stacked


def blocks(images: Iterable[np.ndarray], names: list[str], where: str) -> Iterator[np.ndarray]:
    """The images as they come, each as [1, H, W, C]; `InputError` at the first of another shape."""
    shape = None
    for name, image in zip(names, images, strict=True):
        shape = shape or image.shape
        if image.shape != shape:
            raise InputError(
                f"{where}: image {str(name)!r} is {_shape(image)} but {str(names[0])!r} is {_shape(shape)}; "
                "give an image_size, to resize all to one shape"
            )
        yield image[None]


def _empty(shape):
    """An array for images [N, H, W, C]; `InputError` where they are more than this machine's memory."""
    size, memory = math.prod(shape), machine_bytes()
    if size > memory:
        raise InputError(
            f"{shape[0]} images of {_shape(shape[1:])} take {size / 2**30:,.0f} GiB, more than the "
            f"{memory / 2**30:,.0f} GiB of memory here; give a smaller image_size"
        )
    return np.empty(shape, np.uint8)


def _shape(image):
    return "x".join(map(str, getattr(image, "shape", image)))
