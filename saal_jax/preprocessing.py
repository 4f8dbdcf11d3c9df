"""From stored uint8 images to what a network sees."""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Gt, Le

from saal_jax import moves
from saal_jax.data.on_disk import blocks
from saal_jax.typing import Images, Key


def normalize(images: Images, mean: Any, std: Any) -> jax.Array:
    """uint8 `[B, H, W, C]` to float32 `(images / 255 - mean) / std`, with `mean[C]` and `std[C]` of the 0..1 range."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return (images.astype(jnp.float32) / 255 - mean[None, None, None]) / std[None, None, None]


def mean_and_std(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 `[N, H, W, C]`, in memory or on disk, in the 0..1 range.

    From exact sums, so that they are the same however the images are read.

    >>> mean_and_std(np.array([0, 51, 102, 255], np.uint8).reshape(2, 1, 2, 1))
    ([0.4], [0.3741657386773941])
    """
    channels = images.shape[-1]
    sums = np.zeros((2, channels), np.int64)
    for block in blocks(images):
        pixels = block.reshape(len(block), -1)
        for power, values in enumerate((pixels, np.square(pixels, dtype=np.uint16))):
            sums[power] += values.sum(0, dtype=np.uint32).reshape(-1, channels).sum(0, dtype=np.int64)  # 2^16 x 255^2
    count = math.prod(images.shape[:-1])
    pairs = [(total, count * squares - total**2) for total, squares in sums.T.tolist()]
    return [total / count / 255 for total, _ in pairs], [math.sqrt(spread) / count / 255 for _, spread in pairs]


def crop_and_flip(
    key: Key, images: Images, *, padding: Annotated[int, Ge(0), Le(1024)] = 4, flip: bool = True
) -> jax.Array:
    """Each image shifted at random by up to `padding` pixels (black comes in) and, with `flip`, mirrored with
    probability 1/2.
    """
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def augment(key, image):
        top, left, mirrored = moves.drawn_crop(key, padding, flip)
        height, width, channels = image.shape[0] - 2 * padding, image.shape[1] - 2 * padding, image.shape[2]
        image = jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))
        return jnp.where(mirrored, image[:, ::-1], image)

    return jax.vmap(augment)(jax.random.split(key, len(images)), padded)


def unchanged(key: Key, images: Images) -> Images:
    """No augmentation."""
    del key
    return images


def scale_and_flip(
    key: Key,
    images: Images,
    *,
    smallest: Annotated[float, Gt(0), Le(1)] = 0.8,
    largest: Annotated[float, Ge(1), Le(10)] = 1.25,
    flip: bool = True,
) -> jax.Array:
    """Each image scaled by a random factor from `smallest` to `largest` about a random place (black comes in) and, with
    `flip`, mirrored with probability 1/2.
    """
    return moves.moved(images, moves.scale_and_flip(key, images, smallest=smallest, largest=largest, flip=flip))


# Each moves the image as the function of its name in `saal_jax.moves.MOVES` says.
AUGMENTATIONS = {"none": unchanged, "crop_and_flip": crop_and_flip, "scale_and_flip": scale_and_flip}
