"""Training steps per second, beside the same step in PyTorch: `python -m benchmarks.training`.

A step gathers its batch from uint8 images that stay on the device, crops and flips, normalises, and moves the weights
by Adam or by SAM. Every contender is a process of its own; from the same weights and without augmentation, the losses
of two steps on one batch first have to agree; then they take turns, and the median of the turns counts. The floor is
what arithmetic (three forward passes, for SAM six) and memory traffic (gradients and optimizer state, each array
written and read as often as the update needs it) would cost at the rates this machine shows in the same run.
"""

import itertools
import sys
from pathlib import Path

import jax
import numpy as np

from benchmarks.contenders import Contender, Row, compete, parser, report, speed_columns, speeds
from benchmarks.jax_networks import forward_operations, save
from saal_jax.models import MODELS

NETWORKS = {"small_cnn 8x8": ("small_cnn", 16, 8, 1), "resnet18 width 16": ("resnet18", 16, 32, 3)}
NETWORKS["resnet18 width 64"] = ("resnet18", 64, 32, 3)
PASSES = {"adam": 3, "sam": 6}  # in forward passes: a backward pass is two
ARRAYS = {"adam": 8, "sam": 10}  # of the size of the weights, written or read; see `measure`
SETTINGS = {
    f"{network} batch {batch} {optimizer}": (network, batch, optimizer)
    for network, batch, optimizer in itertools.product(NETWORKS, (10, 128), PASSES)
}
IMAGES = 512
LEARNING_RATE = 1e-4  # larger ones carry rounding of the first gradient into the second loss, by more than 1e-4
OPERATIONS_PER_TURN, MOST_STEPS = 1e11, 200  # a turn is about a second


def measure(title: str, folder: Path, peer_python: str | None, repeats: int) -> list[Row]:
    """The rows of one setting.

    Traffic: Adam writes the gradient, reads it with the weights and both moments, and writes these three. SAM writes
    the gradient, reads it with the weights, writes the ascended ones, and writes a second gradient; momentum reads
    that, the weights and the trace, and writes these two.
    """
    network, batch, optimizer = SETTINGS[title]
    name, width, size, channels = NETWORKS[network]
    model = MODELS[name](10, width=width)
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(IMAGES, size, size, channels), dtype=np.uint8)
    weights = jax.jit(model.init)(jax.random.key(0), images[:1].astype(np.float32))
    operations = PASSES[optimizer] * batch * forward_operations(model, weights, images.astype(np.float32))
    steps = int(np.clip(OPERATIONS_PER_TURN // operations, 1, MOST_STEPS))
    setting = folder / "setting.npz"
    examples = {
        "images": images,
        "labels": generator.integers(10, size=IMAGES),
        "batches": generator.integers(IMAGES, size=(steps, batch)),
    }
    save(setting, name, width, weights, learning_rate=LEARNING_RATE, **examples)
    contenders = [Contender("saal_jax", sys.executable, "jax_training_worker.py", optimizer, setting)]
    if peer_python:
        contenders.append(Contender("PyTorch", peer_python, "torch_training_worker.py", optimizer, setting))
    compete(title, contenders, repeats)
    traffic = ARRAYS[optimizer] * sum(leaf.nbytes for leaf in jax.tree.leaves(weights.params))
    return speeds(title, contenders, "steps", steps, operations, traffic)


def main() -> None:
    """Reads the command line, measures every setting and prints one table."""
    arguments = parser("training", __doc__, SETTINGS, repeats=5).parse_args()
    report(measure, speed_columns("steps"), arguments, SETTINGS)


if __name__ == "__main__":
    main()
