"""CenterNet, a detector of one level (Zhou et al., "Objects as Points", 2019), small enough for a CPU."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from saal_jax.models.layers import Convolution, Outputs, doubled, in_float32, torch_kernel_init

STRIDE = 4  # pixels of a cell
RARE = -2.19  # the logit of .1: few cells are centres, and training should not begin by learning that


class Cells(NamedTuple):
    """What a detector says of each of `h x w` cells, which divide an image evenly: float32, or wider.

    heat: logits `[B, h, w, num_classes]` of a centre of each class in the cell.
    boxes: `[B, h, w, 4]` = dx, dy, width, height of the box whose centre is in the cell. The centre is at
      `((column + .5 + dx) / w, (row + .5 + dy) / h)`, and width and height are shares of the image's too.
    """

    heat: jax.Array
    boxes: jax.Array


class CenterNet(nn.Module):
    """`depth` stages that halve the image, the way back to a quarter of it with the stages added, and two heads.

    `h = ceil(H / 4)`: an image whose sides do not divide by four is first enlarged until they do. The features are what
    both heads read, averaged over the cells.
    """

    num_classes: int
    width: int = 16
    depth: int = 3
    dtype: Any = None

    @nn.compact
    def __call__(self, images, *, train: bool = False, drop: bool = False, mask=None):
        hidden, stages = _enlarged(images), []
        for stage in range(self.depth):
            channels = self.width * (stage + 1)
            hidden = Convolution(channels, 2, self.dtype)(hidden)
            hidden = Convolution(channels, 1, self.dtype)(hidden)
            stages.append(hidden)
        for skip in reversed(stages[1:-1]):
            hidden = doubled(Convolution(skip.shape[-1], 1, self.dtype)(hidden), like=skip) + skip
        heat = self._head(hidden, self.num_classes, nn.initializers.constant(RARE))
        boxes = self._head(hidden, 4, nn.initializers.zeros)
        height, width = heat.shape[1:3]
        sizes = jnp.exp(boxes[..., 2:]) / jnp.array([[[[width, height]]]])
        features = jnp.mean(in_float32(hidden), axis=(1, 2))
        return Outputs(Cells(heat, jnp.concatenate([boxes[..., :2], sizes], -1)), features, tuple(stages))

    def _head(self, hidden, channels, bias_init):
        hidden = in_float32(Convolution(hidden.shape[-1], 1, self.dtype)(hidden))
        return nn.Conv(channels, (1, 1), kernel_init=torch_kernel_init, bias_init=bias_init)(hidden)


def _enlarged(images):
    """Images whose sides divide by the stride: a share of them is the same share of the cells."""
    batch, height, width, channels = images.shape
    shape = (batch, -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE, channels)
    return images if shape == images.shape else jax.image.resize(images, shape, "bilinear")
