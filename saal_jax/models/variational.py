"""A variational autoencoder of images, and a discriminator of its codes (Sinha, Ebrahimi and Darrell 2019)."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saal_jax.typing import Key

_MAX_STAGES = 4


class Autoencoder(NamedTuple):
    """init: `(key, images[B, H, W, C]) -> params`, for images of any size.

    encode: `(params, images) -> (mean[B, L], log_variance[B, L])` of each image's code, whatever stands beside it.
    reconstruct: `(params, images, key) -> (images, mean, log_variance)`, from codes drawn with `key`.
    """

    init: Callable
    encode: Callable
    reconstruct: Callable


class Discriminator(NamedTuple):
    """init: `(key, codes) -> params`; apply: `(params, codes[B, L]) -> logits[B]`."""

    init: Callable
    apply: Callable


def variational_autoencoder(*, latent: int, width: int) -> Autoencoder:
    """Stages of a 4x4 convolution of stride 2 and ReLU, of `width`, 2, 4 and 8 `width` features; a mirrored decoder.

    From 32 pixels on there are the published four stages, below as many as leave maps of 2x2 to 4x4. The published
    BatchNorm is left out: with it a code depends on the batch it is in, and training differs from use.
    """
    module = _Autoencoder(latent, width)
    return Autoencoder(
        lambda key, images: module.init(key, images, key)["params"],
        lambda params, images: module.apply({"params": params}, images, method="encode"),
        lambda params, images, key: module.apply({"params": params}, images, key),
    )


def discriminator(*, width: int = 512) -> Discriminator:
    """Two hidden layers of `width` features with ReLU, then one logit."""
    module = _Discriminator(width)
    return Discriminator(
        lambda key, codes: module.init(key, codes)["params"],
        lambda params, codes: module.apply({"params": params}, codes),
    )


class _Autoencoder(nn.Module):
    latent: int
    width: int

    def setup(self) -> None:
        self.encoder = _Encoder(self.latent, self.width)
        self.decoder = _Decoder(self.width)

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.encoder(images)

    def __call__(self, images: jax.Array, key: Key) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean, log_variance = self.encode(images)
        codes = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return self.decoder(codes, images.shape[1:]), mean, log_variance


class _Encoder(nn.Module):
    latent: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = images
        for stage in range(_stages(images.shape[1:])):
            hidden = nn.relu(_Down(self.width * 2**stage)(hidden))
        hidden = hidden.reshape(len(hidden), -1)
        # A variance that starts at 1 for every image cannot overflow, however far its pixels are from the mean.
        return nn.Dense(self.latent)(hidden), nn.Dense(self.latent, kernel_init=nn.initializers.zeros)(hidden)


class _Decoder(nn.Module):
    width: int

    @nn.compact
    def __call__(self, codes: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        stages = _stages(shape)
        height, width = _size(shape, stages)
        features = self.width * 2 ** (stages - 1)
        hidden = nn.Dense(height * width * features, kernel_init=nn.initializers.he_normal())(codes)
        hidden = hidden.reshape(-1, height, width, features)
        for stage in reversed(range(stages)):
            features = self.width * 2 ** (stage - 1) if stage else shape[-1]
            height, width = _size(shape, stage)
            hidden = _Up(features)(nn.relu(hidden))[:, :height, :width]
        return hidden


class _Discriminator(nn.Module):
    width: int

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        hidden = codes
        for _ in range(2):
            hidden = nn.relu(nn.Dense(self.width, kernel_init=nn.initializers.he_normal())(hidden))
        return nn.Dense(1)(hidden)[:, 0]


class _Down(nn.Module):
    """A 4x4 convolution of stride 2, as a 2x2 one over blocks of 2x2 pixels: on a CPU ten times as fast."""

    features: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        batch, height, width, channels = images.shape
        images = jnp.pad(images, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
        blocks = images.reshape(batch, images.shape[1] // 2, 2, images.shape[2] // 2, 2, channels)
        blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, blocks.shape[1], blocks.shape[3], 4 * channels)
        return nn.Conv(self.features, (2, 2), padding="VALID", kernel_init=nn.initializers.he_normal())(blocks)


class _Up(nn.Module):
    """A transposed 4x4 convolution of stride 2, by way of blocks likewise.

    The padding stands by itself: XLA's gradient of a padded 2x2 convolution takes seven times as long.
    """

    features: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        images = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        blocks = nn.Conv(4 * self.features, (2, 2), padding="VALID", kernel_init=nn.initializers.he_normal())(images)
        batch, height, width, _ = blocks.shape
        blocks = blocks.reshape(batch, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(batch, 2 * height, 2 * width, self.features)[:, 1:-1, 1:-1]


def _stages(shape):
    """How often the shorter side is halved: down to 2 to 4 pixels, but at most as often as published."""
    return min(_MAX_STAGES, max(1, min(shape[:2]).bit_length() - 2))


def _size(shape, stage):
    return tuple(-(-side // 2**stage) for side in shape[:2])
