"""A small network without normalisation, for small images and quick runs."""

import flax.linen as nn

from saal_jax.errors import InputError
from saal_jax.models.layers import Linear, max_pool, torch_kernel_init


class SmallCNN(nn.Module):
    """Two 3x3 convolutions of `width` and `2 width` features, each with ReLU and 2x2 max-pool, then a linear layer.

    About 6,000 parameters on 8x8 grey images at the default width.
    """

    num_classes: int
    width: int = 16

    @nn.compact
    def __call__(self, images, *, train: bool = False, mask=None):
        if min(images.shape[1:3]) < 4:
            raise InputError(
                f"images are {'x'.join(map(str, images.shape[1:]))} (height, width, channels): at least 4x4"
            )
        hidden = images
        for features in (self.width, 2 * self.width):
            hidden = nn.relu(nn.Conv(features, (3, 3), kernel_init=torch_kernel_init)(hidden))
            hidden = max_pool(hidden)
        return Linear(self.num_classes)(hidden.reshape(hidden.shape[0], -1))
