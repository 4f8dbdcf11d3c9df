"""U-Net, a segmenter (Ronneberger et al., 2015), with group normalisation and strided convolutions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from saal_jax.models.layers import Convolution, Outputs, doubled, in_float32, torch_kernel_init


class UNet(nn.Module):
    """`depth` stages of two convolutions, all but the first of which halve the image, and the way back, on which each
    stage is joined to what comes from below.

    The first stage has the given `stride`; its logits are resized to the pixels of the image, bilinearly. The features
    are the lowest stage averaged over its places.
    """

    num_classes: int
    width: int = 16
    depth: int = 3
    stride: int = 2
    dtype: Any = None

    @nn.compact
    def __call__(self, images, *, train: bool = False, drop: bool = False, mask=None):
        hidden, stages = images, []
        for stage in range(self.depth):
            hidden = self._block(hidden, self.width * (stage + 1), 2 if stage else self.stride)
            stages.append(hidden)
        features = jnp.mean(in_float32(hidden), axis=(1, 2))
        for skip in reversed(stages[:-1]):
            hidden = jnp.concatenate([doubled(hidden, like=skip), skip], -1)
            hidden = self._block(hidden, skip.shape[-1], 1)
        logits = nn.Conv(self.num_classes, (1, 1), kernel_init=torch_kernel_init)(in_float32(hidden))
        return Outputs(_resized(logits, self.stride, images), features, tuple(stages))

    def _block(self, hidden, features, stride):
        return Convolution(features, 1, self.dtype)(Convolution(features, stride, self.dtype)(hidden))


def _resized(logits, stride, images):
    """Logits for every pixel; those that the stride made beyond an odd side are cut off."""
    batch, height, width, classes = logits.shape
    if stride > 1:
        logits = jax.image.resize(logits, (batch, height * stride, width * stride, classes), "bilinear")
    return logits[:, : images.shape[1], : images.shape[2]]
