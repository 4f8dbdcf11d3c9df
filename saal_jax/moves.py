"""How an augmentation moves the pixels of an image, for labels that have a place in it."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le

from saal_jax.errors import InputError
from saal_jax.typing import Array, Images, Key

VOID = 255  # the label of a pixel of which nothing is known


class Move(NamedTuple):
    """Pixel (y, x) of the result shows pixel (top + y / scale, left + x / scale) of the image, after its columns were
    reversed where `flipped`. Pixels are counted from the centre of the first; `top` and `left` may be negative.
    """

    flipped: jax.Array
    scale: jax.Array
    top: jax.Array
    left: jax.Array


def still(key: Key, images: Images) -> Move:
    """No image moves."""
    del key
    zeros = jnp.zeros(len(images))
    return Move(zeros.astype(bool), zeros + 1, zeros, zeros)


def crop_and_flip(key: Key, images: Images, *, padding: Annotated[int, Ge(0), Le(1024)] = 4, flip: bool = True) -> Move:
    """Each image shifted at random by up to `padding` pixels and, with `flip`, mirrored with probability 1/2."""

    top, left, flipped = jax.vmap(lambda key: drawn_crop(key, padding, flip))(jax.random.split(key, len(images)))
    # It is mirrored after it is shifted.
    left = jnp.where(flipped, 2 * padding - left, left)
    return Move(flipped, jnp.ones(len(images)), top - float(padding), left - float(padding))


def drawn_crop(key: Key, padding: int, flip: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Top and left of a crop of an image with a border of `padding` pixels, and whether it is then mirrored."""
    crop_key, flip_key = jax.random.split(key)
    top, left = jax.random.randint(crop_key, (2,), 0, 2 * padding + 1)
    return top, left, jax.random.bernoulli(flip_key) & flip


def scale_and_flip(
    key: Key,
    images: Images,
    *,
    smallest: Annotated[float, Gt(0), Le(1)] = 0.8,
    largest: Annotated[float, Ge(1), Le(10)] = 1.25,
    flip: bool = True,
) -> Move:
    """Each image scaled by a random factor from `smallest` to `largest` (uniform in its logarithm), shifted at random
    so that the smaller of image and frame lies within the other, and, with `flip`, mirrored with probability 1/2.
    """
    height, width = images.shape[1:3]

    def draw(key):
        scale_key, place_key, flip_key = jax.random.split(key, 3)
        low, high = jnp.log(smallest), jnp.log(largest)
        scale = jnp.exp(jax.random.uniform(scale_key, (), minval=low, maxval=high))
        room = jnp.array([height, width]) * (1 - 1 / scale)  # negative where the frame shows more than the image
        # Pixel centres: the first of the frame shows (.5 / scale - .5) of the image, and the place of its corner.
        top, left = jax.random.uniform(place_key, (2,)) * room + 0.5 / scale - 0.5
        return Move(jax.random.bernoulli(flip_key) & flip, scale, top, left)

    return jax.vmap(draw)(jax.random.split(key, len(images)))


MOVES: dict[str, Callable] = {"none": still, "crop_and_flip": crop_and_flip, "scale_and_flip": scale_and_flip}


def drawn_and_moved(moves: Callable | None, key: Key, images: Images, what: str) -> tuple[Move, jax.Array]:
    """How an augmentation moves each image of a batch, and the images so moved. Raises InputError where it is none of
    `MOVES`: `what` labels are made of could not follow.
    """
    if moves is None:
        raise InputError(f"this augmentation does not say how {what} move: use none, crop_and_flip or scale_and_flip")
    each = moves(key, images)
    return each, moved(images, each)


def moved(images: Images, moves: Move) -> jax.Array:
    """uint8 images `[B, H, W, C]` so moved, bilinear; black comes in."""

    def one(image, move):
        rows, columns = _places(image.shape, move)
        tall = _interpolated(_flipped(image, move).astype(jnp.float32), rows, axis=0)
        return jnp.round(_interpolated(tall, columns, axis=1)).astype(image.dtype)

    return jax.vmap(one)(images, moves)


def moved_masks(masks: Array, moves: Move) -> jax.Array:
    """uint8 labels of pixels `[B, H, W]` so moved, each the nearest one; `VOID` comes in."""

    def one(mask, move):
        rows, columns = (jnp.floor(places + 0.5).astype(jnp.int32) for places in _places(mask.shape, move))
        taken = _flipped(mask, move).at[rows[:, None], columns[None]].get(mode="fill", fill_value=VOID)
        inside = (rows >= 0)[:, None] & (columns >= 0)[None]  # a negative index would count from the end
        return jnp.where(inside, taken, VOID).astype(mask.dtype)

    return jax.vmap(one)(masks, moves)


def moved_corners(corners: Array, moves: Move, height: int, width: int) -> jax.Array:
    """Corners x0, y0, x1, y1 `[B, K, 4]`, in shares of width and height, so moved; they may end outside 0..1."""

    def one(corners, move):
        left, right = corners[:, 0::2] * width, (1 - corners[:, 2::-2]) * width
        x = jnp.where(move.flipped, right, left)
        # A corner lies half a pixel before the centre of the first pixel behind it.
        x = (x - 0.5 - move.left) * move.scale + 0.5
        y = (corners[:, 1::2] * height - 0.5 - move.top) * move.scale + 0.5
        return jnp.stack([x[:, 0] / width, y[:, 0] / height, x[:, 1] / width, y[:, 1] / height], axis=1)

    return jax.vmap(one)(corners, moves)


def _places(shape, move):
    """Which row and which column of the image each of the result shows."""
    return move.top + jnp.arange(shape[0]) / move.scale, move.left + jnp.arange(shape[1]) / move.scale


def _flipped(image, move):
    return jnp.where(move.flipped, image[:, ::-1], image)


def _interpolated(image, places, axis):
    """`image` at `places` along an axis, linear between the two nearest; 0 outside."""
    below = jnp.floor(places).astype(jnp.int32)
    share = places - below
    shape = [1] * image.ndim
    shape[axis] = len(places)

    def at(index):
        inside = (index >= 0) & (index < image.shape[axis])
        values = jnp.take(image, jnp.clip(index, 0, image.shape[axis] - 1), axis=axis)
        return values * inside.reshape(shape)

    return at(below) * (1 - share).reshape(shape) + at(below + 1) * share.reshape(shape)
