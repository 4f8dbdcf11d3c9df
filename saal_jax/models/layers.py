"""Layers as PyTorch defines them, so that the published networks start and train alike."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saal_jax.typing import Array, Images

# PyTorch's default: U(-b, b) with b = 1 / sqrt(fan_in), of variance 1 / (3 fan_in).
torch_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


MOMENTUM = 0.9  # of the running statistics: the share of the old ones


class Outputs(NamedTuple):
    """What a network returns: `logits`, the `features[B, D]` of an image, and the outputs of its `stages`, each
    `[B, H, W, D]`. Of a network that computes in bfloat16 the stages are bfloat16, the others float32.

    A classifier's logits are `[B, num_classes]`, and its features what its linear layer reads; a segmenter's logits are
    `[B, H, W, num_classes]`, a detector's are `Cells`.
    """

    logits: Any
    features: jax.Array
    stages: tuple


class Linear(nn.Module):
    """A fully connected layer whose bias starts uniform in +-1/sqrt(fan_in), as in PyTorch; in the dtype of its inputs
    and weights.
    """

    features: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        bound = inputs.shape[-1] ** -0.5

        def bias_init(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        return nn.Dense(self.features, kernel_init=torch_kernel_init, bias_init=bias_init)(inputs)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last: running variance unbiased, padded rows (`mask` 0) left out.

    Flax's own layer keeps the biased variance; PyTorch, and with it the published runs, the unbiased one. Moments and
    normalisation are computed in float32 at least; `dtype` is that of the result, None as it comes.
    """

    momentum: float = MOMENTUM
    epsilon: float = 1e-5
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool, mask: Array | None = None) -> jax.Array:
        inputs, features = in_float32(inputs), inputs.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        if train:
            mean, var, count = _moments(inputs, mask)
            if not self.is_initializing():
                unbiased = var * count / jnp.maximum(count - 1, 1)
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        axes = tuple(range(inputs.ndim - 1))
        expand = lambda array: jnp.expand_dims(array, axes)  # noqa: E731
        outputs = (inputs - expand(mean)) * expand(factor) + expand(bias)
        return outputs.astype(self.dtype or outputs.dtype)


def in_float32(array: Any) -> jax.Array:
    """`array` in float32 at least: what leaves a network, and what is summed over many values."""
    wide = jnp.promote_types(array.dtype, jnp.float32)
    # A sum that XLA (YNNPACK, on a CPU) fuses with the bfloat16 layers before it came out as NaN.
    return array if array.dtype == wide else jax.lax.optimization_barrier(array).astype(wide)


def max_pool(images: Images) -> jax.Array:
    """The maxima of 2x2 squares of `images[B, H, W, C]`; an odd last row or column is dropped.

    Comparing neighbours has a gradient several times faster than that of a window reduction, which scatters.
    """
    batch, height, width, channels = images.shape
    height, width = height // 2, width // 2
    images = images[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    rows = jnp.maximum(images[:, :, 0], images[:, :, 1])
    return jnp.maximum(rows[..., 0, :], rows[..., 1, :])


def _moments(inputs, mask):
    """Mean, biased variance and number of values per feature over the rows where `mask[B]` is 1."""
    axes = tuple(range(inputs.ndim - 1))
    rows = jnp.ones(inputs.shape[:1], inputs.dtype) if mask is None else mask.astype(inputs.dtype)
    weight = rows.reshape((-1,) + (1,) * (inputs.ndim - 1))
    count = rows.sum() * (inputs[0, ..., 0].size)
    mean = (inputs * weight).sum(axes) / count
    var = (jnp.square(inputs - jnp.expand_dims(mean, axes)) * weight).sum(axes) / count
    return mean, var, count


class Convolution(nn.Module):
    """A 3x3 convolution, group normalisation and ReLU. At stride 2 a side of n pixels becomes one of ceil(n / 2).

    Groups are of four features where these divide by four. Every image is normalised for itself, in float32 at least:
    batches may be small, and there are no running statistics.
    """

    features: int
    stride: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs):
        options = {"padding": 1, "use_bias": False, "kernel_init": torch_kernel_init, "dtype": self.dtype}
        hidden = nn.Conv(self.features, (3, 3), self.stride, **options)(inputs)
        group_size = math.gcd(4, self.features)
        hidden = nn.GroupNorm(None, group_size, epsilon=1e-5)(in_float32(hidden))
        return nn.relu(hidden).astype(self.dtype or hidden.dtype)


def doubled(images: Images, like: Images) -> jax.Array:
    """Each pixel of `images[B, h, w, C]` twice in both directions, cut to the height and width of `like`."""
    height, width = like.shape[1:3]
    return images.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
