"""Modules that predict the loss of an image, or of each pixel, from what the stages of a network make of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saal_jax.models.layers import Linear, in_float32, torch_kernel_init


class Module(NamedTuple):
    """init: `(key, stages) -> params`; apply: `(params, stages) -> predicted loss [B]`, or `[B, H, W]`."""

    init: Callable
    apply: Callable


class _LossPrediction(nn.Module):
    width: int
    convolutions: bool

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array]) -> jax.Array:
        read = []
        for number, stage in enumerate(stages):
            if self.convolutions and number < len(stages) - 1:
                options: dict[str, Any] = {"use_bias": False, "kernel_init": torch_kernel_init, "dtype": stage.dtype}
                stage = nn.Conv(stage.shape[-1], (3, 3), 2, padding=1, **options)(stage)
            read.append(nn.relu(Linear(self.width)(jnp.mean(in_float32(stage), axis=(1, 2)))))
        return Linear(1)(jnp.concatenate(read, axis=-1))[:, 0]


class _PixelLossPrediction(nn.Module):
    width: int
    size: tuple[int, int]

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array]) -> jax.Array:
        batch, height, width, _ = stages[0].shape
        read = [nn.relu(Linear(self.width)(in_float32(stage))) for stage in stages]
        read = [jax.image.resize(part, (batch, height, width, self.width), "nearest") for part in read]
        return jax.image.resize(Linear(1)(jnp.concatenate(read, axis=-1))[..., 0], (batch, *self.size), "bilinear")


def loss_prediction_module(*, width: int, convolutions: bool, size: tuple[int, int] | None = None) -> Module:
    """Every stage: global average, `width` features, ReLU; all of them joined: one number.

    With `convolutions` all stages but the last first pass a bias-free 3x3 convolution of stride 2, in their dtype. With
    the `size` (height, width) of an image, each place is read by itself instead, and the result resized to its pixels.
    """
    module = _PixelLossPrediction(width, size) if size else _LossPrediction(width, convolutions)
    return Module(
        lambda key, stages: module.init(key, stages)["params"],
        lambda params, stages: module.apply({"params": params}, stages),
    )
