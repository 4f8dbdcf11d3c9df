"""From stored uint8 images to what a network sees."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le


def normalize(images, mean, std):
    """uint8 `[B, H, W, C]` to float32 `(images / 255 - mean) / std`, with `mean[C]` and `std[C]` of the 0..1 range."""
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return (images.astype(jnp.float32) / 255 - mean[None, None, None]) / std[None, None, None]


def crop_and_flip(key, images, *, padding: Annotated[int, Ge(0), Le(1024)] = 4):
    """Each image shifted at random by up to `padding` pixels (black comes in) and mirrored with probability 1/2."""
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def augment(key, image):
        crop_key, flip_key = jax.random.split(key)
        top, left = jax.random.randint(crop_key, (2,), 0, 2 * padding + 1)
        height, width, channels = image.shape[0] - 2 * padding, image.shape[1] - 2 * padding, image.shape[2]
        image = jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))
        return jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)

    return jax.vmap(augment)(jax.random.split(key, len(images)), padded)


def unchanged(key, images):
    """No augmentation."""
    del key
    return images


AUGMENTATIONS = {"none": unchanged, "crop_and_flip": crop_and_flip}
