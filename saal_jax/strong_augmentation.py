"""FixMatch's strong augmentation: two operations of fourteen at random strengths, then a grey square.

The operations are Pillow's, in whole numbers, hence the same on every device: see `_affine_matrices` and `_blend`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.errors import InputError
from saal_jax.typing import Key

GREY = 127
MAGNITUDES = 10  # of the ten, 0 is never drawn


def strong(key: Key, images: jax.Array) -> jax.Array:
    """Changes each of uint8 `images[B, H, W, C]` (C = 1 or 3) by its own two draws from `POOL`, then greys a square.

    Drawn with replacement, an operation is carried out with probability 1/2, at 1 to 9 tenths of its largest magnitude.
    The square always comes: half the shorter side plus 1 pixel, as its end is drawn too (17 pixels of 32), its centre
    anywhere; what would pass the upper or left edge is moved inside, what passes the others is lost. Flip and crop come
    before and are the caller's. After FixMatch (Sohn et al., NeurIPS 2020, table 12), as its PyTorch ports and SSLPM
    (Hwang et al., IEEE Access 2024) have it.

    Bit for bit Pillow's, but one level brighter where its floating point falls just short of a whole level: in
    AutoContrast for 18 % of the pairs of darkest and brightest level (mostly the brightest level alone, 254 there), and
    at magnitude 6 for 17 of the 65,536 pairs of levels that Brightness, Color, Contrast and Sharpness blend.

    >>> import jax, jax.numpy as jnp
    >>> black = jnp.zeros((2, 32, 32, 3), jnp.uint8)  # which no operation changes
    >>> [int(level) for level in jnp.unique(jax.jit(strong)(jax.random.key(0), black))]
    [0, 127]
    """
    if images.ndim != 4 or images.dtype != jnp.uint8 or images.shape[-1] not in (1, 3):
        raise InputError(f"images are {images.dtype} {images.shape}: pass uint8 [B, H, W, C] with 1 or 3 channels")

    def augment(key, image):
        *changes, centre = draw(key)
        # A scan, as unrolled the compiler fuses the first operation into the neighbourhoods that the second one reads.
        image, _ = jax.lax.scan(lambda image, drawn: (change(image, *drawn), None), image, changes)
        return cut_out(image, centre)

    return jax.vmap(augment)(jax.random.split(key, len(images)), images)


class Draws(NamedTuple):
    """For one image `operation[2]` (place in `POOL`), `magnitude[2]`, `negative[2]` and `centre[2]` (y, x in 0..1)."""

    operation: jax.Array
    magnitude: jax.Array
    negative: jax.Array
    centre: jax.Array


def draw(key: Key) -> Draws:
    """The draws for one image; an operation that is skipped is the identity."""
    operation_key, skip_key, magnitude_key, sign_key, centre_key = jax.random.split(key, 5)
    operation = jax.random.randint(operation_key, (2,), 0, len(POOL))
    return Draws(
        jnp.where(jax.random.bernoulli(skip_key, 0.5, (2,)), list(POOL).index("Identity"), operation),
        jax.random.randint(magnitude_key, (2,), 1, MAGNITUDES),
        jax.random.bernoulli(sign_key, 0.5, (2,)),
        jax.random.uniform(centre_key, (2,)),
    )


def change(image: jax.Array, operation: jax.Array, magnitude: jax.Array, negative: jax.Array) -> jax.Array:
    """One operation, with `negative` the sign of a geometric one.

    Each operation changes either the levels or the places. Under `vmap` all are computed and one is taken; one gather
    serves the five that move pixels.
    """
    pixels = jax.lax.switch(operation, list(POOL.values()), image.astype(jnp.int32), magnitude)
    matrix = jnp.asarray(_affine_matrices(*image.shape[:2]))[operation, magnitude, negative.astype(jnp.int32)]
    return _move(pixels.astype(jnp.uint8), matrix)


def cut_out(image: jax.Array, centre: jax.Array) -> jax.Array:
    """The grey square; its start is cut off to whole pixels and its length counted from there."""
    height, width, _ = image.shape
    side = min(height, width) // 2

    def covered(length, centre):
        start = jnp.maximum(0, centre * length - side / 2).astype(jnp.int32)
        return (start <= jnp.arange(length)) & (jnp.arange(length) <= start + side)

    square = covered(height, centre[0])[:, None, None] & covered(width, centre[1])[None, :, None]
    return jnp.where(square, jnp.uint8(GREY), image)


def _move(image, matrix):
    """Takes each pixel from where the fixed-point `matrix[6]` says; from outside the image comes black."""
    height, width, channels = image.shape
    y, x = jnp.mgrid[:height, :width]
    column = (matrix[0] * x + matrix[1] * y + matrix[2]) >> 16
    row = (matrix[3] * x + matrix[4] * y + matrix[5]) >> 16
    inside = (0 <= column) & (column < width) & (0 <= row) & (row < height)
    source = jnp.where(inside, row * width + column, height * width)
    return image.reshape(-1, channels).at[source].get(mode="fill", fill_value=0)


def _affine_matrices(height, width):
    """`[operation, magnitude, negative, 6]`: `_affine` of the pixels' centres in Pillow's fixed point, 1/65536 pixel.

    Rounded here in double precision, as there, so that the nearest pixel is always the same.
    """
    maps = np.array(
        [
            [[_affine(name, magnitude, sign, height, width) for sign in (1, -1)] for magnitude in range(MAGNITUDES)]
            for name in POOL
        ]
    )
    maps[..., [2, 5]] += 0.5 * maps[..., [0, 3]] + 0.5 * maps[..., [1, 4]]
    return np.floor(maps * 65536 + 0.5).astype(np.int32)


def _affine(name, magnitude, sign, height, width):
    """(a, b, c, d, e, f): the pixel at (x, y) comes from (a x + b y + c, d x + e y + f)."""
    share = sign * (magnitude * 0.3 / 10)
    if name == "Rotate":
        angle = -math.radians(sign * 3 * magnitude)
        cos, sin, x, y = math.cos(angle), math.sin(angle), width / 2, height / 2
        return cos, sin, x - (cos * x + sin * y), -sin, cos, y - (-sin * x + cos * y)
    moving = {
        "ShearX": (1, share, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, share, 1, 0),
        "TranslateX": (1, 0, int(share * width), 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, int(share * height)),
    }
    return moving.get(name, (1, 0, 0, 0, 1, 0))


def _blend(degenerate, pixels, magnitude):
    """`degenerate` at factor 0, `pixels` at 1; the factor .05 + .09 magnitude in hundredths, the result cut off."""
    return degenerate + (5 + 9 * magnitude) * (pixels - degenerate) // 100


def _luma(pixels):
    if pixels.shape[-1] == 1:
        return pixels
    weights = jnp.array([19595, 38470, 7471]).reshape(1, 1, 3)  # of 65536
    return ((pixels * weights).sum(-1, keepdims=True) + 0x8000) >> 16


def _brightness(pixels, magnitude):
    return _blend(0, pixels, magnitude)


def _color(pixels, magnitude):
    return _blend(_luma(pixels), pixels, magnitude)


def _contrast(pixels, magnitude):
    grey = _luma(pixels)
    return _blend((2 * grey.sum() + grey.size) // (2 * grey.size), pixels, magnitude)  # their mean, rounded


def _sharpness(pixels, magnitude):
    """Blends with a 3x3 mean in which the centre weighs 5 and the neighbours 1; the border is left as it is."""
    height, width, _ = pixels.shape
    if min(height, width) < 3:
        return pixels
    windows = [pixels[y : height - 2 + y, x : width - 2 + x] for y in range(3) for x in range(3)]
    inner = (2 * (sum(windows) + 4 * windows[4]) + 13) // 26
    smooth = jnp.pad(inner, ((1, 1), (1, 1), (0, 0)), constant_values=-1)  # a pad fuses on a CPU, an update does not
    return _blend(jnp.where(smooth < 0, pixels, smooth), pixels, magnitude)


def _auto_contrast(pixels, magnitude):
    """Each channel stretched to 0..255, unless it is constant."""
    low, high = pixels.min((0, 1), keepdims=True), pixels.max((0, 1), keepdims=True)
    return jnp.where(low < high, 255 * (pixels - low) // jnp.maximum(high - low, 1), pixels)


def _equalize(pixels, magnitude):
    """Each pixel by how many of its channel are darker, unless fewer than 255 are darker than the brightest."""
    channel = jnp.arange(pixels.shape[-1]).reshape(1, 1, -1)
    # On a CPU faster than sorting or one-hot products; whole numbers add up alike in any order.
    counts = jnp.zeros((256, pixels.shape[-1]), jnp.int32).at[pixels, channel].add(1)
    darker = (jnp.cumsum(counts, 0) - counts)[pixels, channel]
    step = darker.max((0, 1), keepdims=True) // 255
    return jnp.where(step > 0, jnp.minimum((step // 2 + darker) // jnp.maximum(step, 1), 255), pixels)


def _posterize(pixels, magnitude):
    dropped_bits = 4 - 4 * magnitude // 10
    return (pixels >> dropped_bits) << dropped_bits


def _solarize(pixels, magnitude):
    return jnp.where(pixels < 256 - 256 * magnitude // 10, pixels, 255 - pixels)


def _unchanged(pixels, magnitude):
    return pixels


POOL = {
    "AutoContrast": _auto_contrast,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Equalize": _equalize,
    "Identity": _unchanged,
    "Posterize": _posterize,
    "Rotate": _unchanged,  # here and where it shears or translates: `_affine` moves the pixels
    "Sharpness": _sharpness,
    "ShearX": _unchanged,
    "ShearY": _unchanged,
    "Solarize": _solarize,
    "TranslateX": _unchanged,
    "TranslateY": _unchanged,
}
