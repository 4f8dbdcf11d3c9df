"""Examples scored per second, beside what one would otherwise run: `python -m benchmarks.scoring`.

Every contender is a process of its own, so that threads and allocators do not mix; they first have to agree in score,
then take turns, and the median of the turns counts. The floor is what arithmetic (four forward passes: forward, twice
that backward, perturbed forward) and memory traffic (gradients and perturbed weights, each written and read once)
would cost at the rates this machine shows in the same run. Contenders: saal_jax; the same score under a plain `vmap`
with XLA's convolutions; and, with `--peer_python` naming an interpreter that has PyTorch, the released way (a deep
copy per image, batch 1) and `torch.func` at its best chunk. A detector's loss is taken at its decoded boxes, here
nearly always the 30 for which its labels have room; a segmenter's score is the mean over the pixels.
"""

import sys
from pathlib import Path

import jax

from benchmarks.contenders import Contender, Row, compete, parser, report, speed_columns, speeds
from benchmarks.jax_networks import forward_operations, save
from saal_jax.models import MODELS

CLASSIFIERS = {  # model, width, image shape, images scored per turn
    "small_cnn 8x8": ("small_cnn", 16, (8, 8, 1), 4096),
    "resnet18 width 16": ("resnet18", 16, (32, 32, 3), 256),
    "resnet18 width 64": ("resnet18", 64, (32, 32, 3), 44),
}
SETTINGS = CLASSIFIERS | {
    "detector 80x60": ("center_net", 16, (60, 80, 3), 64),
    "unet 80x60": ("unet", 16, (60, 80, 3), 64),
}


def measure(title: str, folder: Path, peer_python: str | None, repeats: int) -> list[Row]:
    """The rows of one setting."""
    name, width, shape, count = SETTINGS[title]
    model = MODELS[name](10, width=width)
    images = jax.random.normal(jax.random.key(1), (count, *shape))
    weights = jax.jit(model.init)(jax.random.key(0), images[:1])
    if name == "center_net":  # untrained, it would see no box above the threshold
        weights = weights._replace(params=jax.tree.map(lambda leaf: 2 * leaf, weights.params))
    setting = folder / "setting.npz"
    save(setting, name, width, weights, images=images)
    contenders = [
        Contender("saal_jax", sys.executable, "jax_worker.py", "ours", setting),
        Contender("vmap, lax.conv", sys.executable, "jax_worker.py", "naive", setting),
    ]
    if peer_python:
        contenders += [
            Contender("PyTorch loop", peer_python, "torch_worker.py", "loop", setting),
            Contender("torch.func", peer_python, "torch_worker.py", "func", setting),
        ]
    compete(title, contenders, repeats)
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(weights.params))
    operations = 4 * forward_operations(model, weights, images)
    return speeds(title, contenders, "examples", count, operations, 4 * parameters)


def main() -> None:
    """Reads the command line, measures every setting and prints one table."""
    arguments = parser("scoring", __doc__, SETTINGS, repeats=5).parse_args()
    report(measure, speed_columns("examples"), arguments, SETTINGS)


if __name__ == "__main__":
    main()
