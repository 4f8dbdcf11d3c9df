"""The networks, by name, as pure functions. Flax's layers are used in this folder and nowhere else."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from annotated_types import Ge, Le, Lt

from saal_jax.models.center_net import Cells, CenterNet
from saal_jax.models.layers import Outputs
from saal_jax.models.resnet import ResNet18
from saal_jax.models.small_cnn import SmallCNN
from saal_jax.models.unet import UNet
from saal_jax.typing import Images, PyTree

Width = Annotated[int, Ge(1), Le(4096)]
Rate = Annotated[float, Ge(0), Lt(1)]
Depth = Annotated[int, Ge(2), Le(8)]
Stride = Annotated[int, Ge(1), Le(2)]


class Weights(NamedTuple):
    """`params` are trained (and perturbed); `batch_stats` are the running statistics, empty without BatchNorm."""

    params: Any
    batch_stats: Any


class Model(NamedTuple):
    """A network as functions of its weights: anything with fields `params` and `batch_stats`.

    init: `(key, images) -> Weights`.
    outputs: `(weights, images[B, H, W, C]) -> Outputs`, in evaluation mode.
    outputs_train: `(weights, images, mask[B], key) -> (Outputs, batch_stats)`; rows with mask 0 stay out of the
      statistics, and `key` draws what dropout leaves out.
    sample: `(weights, images, key) -> logits`, in evaluation mode but for dropout; None without dropout.
    """

    init: Callable
    outputs: Callable
    outputs_train: Callable
    sample: Callable | None = None

    def apply(self, weights: PyTree, images: Images) -> PyTree:
        """Logits `[B, ...]`, in evaluation mode."""
        return self.outputs(weights, images).logits


def resnet18(num_classes: int, dtype: Any = None, *, width: Width = 64, dropout: Rate = 0.0) -> Model:
    """The CIFAR ResNet-18: 11.2 million parameters at width 64. The published one has no dropout; with it, a fraction
    of the pooled features is dropped before the linear layer.

    `dtype`, or its name, is what the convolutions compute in; None is that of weights and images. Weights, statistics,
    normalisation, pooling and the linear layer are float32 whatever it is, and so are features and logits.
    """
    return _functions(ResNet18(num_classes, width, dropout, dtype and jnp.dtype(dtype)))


def small_cnn(num_classes: int, dtype: Any = None, *, width: Width = 16, dropout: Rate = 0.0) -> Model:
    """Two convolutions, dropout and a linear layer: 6,090 parameters on 8x8 grey images at width 16.

    `dtype` is as for `resnet18`.
    """
    return _functions(SmallCNN(num_classes, width, dropout, dtype and jnp.dtype(dtype)))


def center_net(num_classes: int, dtype: Any = None, *, width: Width = 16, depth: Depth = 3) -> Model:
    """CenterNet, a detector of one level ("objects as points"): its logits are `Cells`, four pixels wide and high.

    `depth` stages of `width` x 1, 2, 3... features halve the image. 84,183 parameters for three classes of colour
    images. There is no batch normalisation. `dtype` is as for `resnet18`; the two last layers are float32.
    """
    return _functions(CenterNet(num_classes, width, depth, dtype and jnp.dtype(dtype)))


def unet(num_classes: int, dtype: Any = None, *, width: Width = 16, depth: Depth = 3, stride: Stride = 2) -> Model:
    """U-Net, a segmenter: its logits are `[B, H, W, num_classes]`.

    `depth` stages of `width` x 1, 2, 3... features, each half as high and wide as the one before; the first halves the
    image where `stride` is 2, and keeps its size (for small images) where it is 1. 93,355 parameters for eleven classes
    of colour images. There is no batch normalisation. `dtype` is as for `resnet18`; the last layer is float32.
    """
    return _functions(UNet(num_classes, width, depth, stride, dtype and jnp.dtype(dtype)))


# What `dtype` is for a run's `precision`: its weights are float32.
COMPUTE_DTYPES = {"float32": None, "bfloat16": "bfloat16"}

MODELS = {function.__name__: function for function in (resnet18, small_cnn, center_net, unet)}

__all__ = [
    "COMPUTE_DTYPES",
    "MODELS",
    "Cells",
    "Model",
    "Outputs",
    "Weights",
    "center_net",
    "resnet18",
    "small_cnn",
    "unet",
]


def _functions(module):
    def variables(weights):
        return {"params": weights.params, "batch_stats": weights.batch_stats}

    def init(key, images):
        variables = module.init(key, images)
        return Weights(variables["params"], variables.get("batch_stats", {}))

    def outputs(weights, images):
        return module.apply(variables(weights), images)

    def outputs_train(weights, images, mask, key):
        options = {"train": True, "drop": True, "mask": mask, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        result, updated = module.apply(variables(weights), images, **options)
        return result, updated.get("batch_stats", {})

    def sample(weights, images, key):
        return module.apply(variables(weights), images, drop=True, rngs={"dropout": key}).logits

    return Model(init, outputs, outputs_train, sample if getattr(module, "dropout", 0) > 0 else None)
