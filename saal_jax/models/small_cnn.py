"""A small network without normalisation, for small images and quick runs."""

from typing import Any

import flax.linen as nn
import jax

from saal_jax.errors import InputError
from saal_jax.models.layers import Linear, Outputs, in_float32, max_pool, torch_kernel_init
from saal_jax.typing import Array


class SmallCNN(nn.Module):
    """Two 3x3 convolutions of `width` and `2 width` features, each with ReLU and 2x2 max-pool, then a linear layer.

    About 6,000 parameters on 8x8 grey images at the default width.
    """

    num_classes: int
    width: int = 16
    dropout: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, drop: bool = False, mask: Array | None = None
    ) -> Outputs:
        if min(images.shape[1:3]) < 4:
            raise InputError(
                f"images are {'x'.join(map(str, images.shape[1:]))} (height, width, channels): at least 4x4"
            )
        hidden, stages = images, []
        for channels in (self.width, 2 * self.width):
            hidden = nn.relu(nn.Conv(channels, (3, 3), kernel_init=torch_kernel_init, dtype=self.dtype)(hidden))
            hidden = max_pool(hidden)
            stages.append(hidden)
        features = in_float32(hidden).reshape(hidden.shape[0], -1)
        logits = Linear(self.num_classes)(nn.Dropout(self.dropout)(features, deterministic=not drop))
        return Outputs(logits, features, tuple(stages))
