"""The CIFAR ResNet-18 of the published protocols."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from saal_jax.models.layers import BatchNorm, Linear, Outputs, in_float32, torch_kernel_init
from saal_jax.typing import Array


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where the shape changes."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool, mask: Array | None) -> jax.Array:
        hidden = _conv(self.features, 3, self.stride, self.dtype)(inputs)
        hidden = nn.relu(BatchNorm(dtype=self.dtype)(hidden, train=train, mask=mask))
        hidden = _conv(self.features, 3, 1, self.dtype)(hidden)
        hidden = BatchNorm(dtype=self.dtype)(hidden, train=train, mask=mask)
        if inputs.shape != hidden.shape:
            inputs = _conv(self.features, 1, self.stride, self.dtype)(inputs)
            inputs = BatchNorm(dtype=self.dtype)(inputs, train=train, mask=mask)
        return nn.relu(hidden + inputs)


class ResNet18(nn.Module):
    """ResNet-18 with a 3x3 stem of stride 1 and no max-pool; stages of `width` x 1, 2, 4, 8 features.

    Every 3x3 convolution is padded by one on both sides; Flax's "SAME" differs at stride 2.
    """

    num_classes: int
    width: int = 64
    dropout: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, drop: bool = False, mask: Array | None = None
    ) -> Outputs:
        hidden = _conv(self.width, 3, 1, self.dtype)(images)
        hidden = nn.relu(BatchNorm(dtype=self.dtype)(hidden, train=train, mask=mask))
        stages = []
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                hidden = Block(self.width * 2**stage, stride, self.dtype)(hidden, train=train, mask=mask)
            stages.append(hidden)
        features = jnp.mean(in_float32(hidden), axis=(1, 2))
        logits = Linear(self.num_classes)(nn.Dropout(self.dropout)(features, deterministic=not drop))
        return Outputs(logits, features, tuple(stages))


def _conv(features, size, stride, dtype):
    options = {"padding": size // 2, "use_bias": False, "kernel_init": torch_kernel_init, "dtype": dtype}
    return nn.Conv(features, (size, size), stride, **options)
