"""The networks, by name, as three pure functions each. Flax's layers are used here and nowhere else."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

from annotated_types import Ge

from saal_jax.models.resnet import ResNet18
from saal_jax.models.small_cnn import SmallCNN


class Weights(NamedTuple):
    """`params` are trained (and perturbed); `batch_stats` are the running statistics, empty without BatchNorm."""

    params: dict
    batch_stats: dict


class Model(NamedTuple):
    """A network as functions of its weights.

    init: `(key, images) -> Weights`.
    apply: `(weights, images[B, H, W, C]) -> logits[B, num_classes]`, in evaluation mode.
    apply_train: `(weights, images, mask[B]) -> (logits, batch_stats)`; rows with mask 0 stay out of the statistics.
    """

    init: Callable
    apply: Callable
    apply_train: Callable


def resnet18(num_classes, *, width: Annotated[int, Ge(1)] = 64) -> Model:
    """The CIFAR ResNet-18: 11.2 million parameters at width 64."""
    return _functions(ResNet18(num_classes, width))


def small_cnn(num_classes, *, width: Annotated[int, Ge(1)] = 16) -> Model:
    """Two convolutions and a linear layer: 6,090 parameters on 8x8 grey images at width 16."""
    return _functions(SmallCNN(num_classes, width))


MODELS = {function.__name__: function for function in (resnet18, small_cnn)}


def _functions(module):
    def init(key, images):
        variables = module.init(key, images)
        return Weights(variables["params"], variables.get("batch_stats", {}))

    def apply(weights, images):
        return module.apply(weights._asdict(), images)

    def apply_train(weights, images, mask):
        logits, updated = module.apply(weights._asdict(), images, train=True, mask=mask, mutable=["batch_stats"])
        return logits, updated.get("batch_stats", {})

    return Model(init, apply, apply_train)
