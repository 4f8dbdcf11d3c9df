"""Examples scored per second, beside what one would otherwise run: `python -m benchmarks.scoring`.

Every contender is a process of its own, so that threads and allocators do not mix; they first have to agree in score,
then take turns, and the median of the turns counts. The floor is what arithmetic (four forward passes: forward, twice
that backward, perturbed forward) and memory traffic (gradients and perturbed weights, each written and read once)
would cost at the rates this machine shows in the same run. Contenders: saal_jax; the same score under a plain `vmap`
with XLA's convolutions; and, with `--peer_python` naming an interpreter that has PyTorch, the released way (a deep
copy per image, batch 1) and `torch.func` at its best chunk.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from benchmarks.rates import rates
from saal_jax.models import resnet18, small_cnn

SETTINGS = {  # model, image shape, images scored per turn
    "small_cnn 8x8": ("small_cnn", 16, (8, 8, 1), 1024),
    "resnet18 width 16": ("resnet18", 16, (32, 32, 3), 64),
    "resnet18 width 64": ("resnet18", 64, (32, 32, 3), 22),
}
MODELS = {"resnet18": resnet18, "small_cnn": small_cnn}
AGREEMENT = 1e-4  # relative, before anything is timed


class Contender:
    """A worker process that scores the images of `setting` once for every line it is sent."""

    def __init__(self, name, python, script, variant, setting):
        self.name = name
        command = [python, str(Path(__file__).parent / script), variant, str(setting)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self._read()
        self.compile_seconds, self.scores, self.seconds = ready["first_seconds"], np.array(ready["scores"]), []
        self.memory = 0

    def turn(self):
        """One timed scoring of all images."""
        print("score", file=self.process.stdin, flush=True)
        answer = self._read()
        self.seconds.append(answer["seconds"])
        self.memory = answer["peak_bytes"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: the worker of {self.name} ended early (status {self.process.wait()})")
        return json.loads(line)


def prepare(folder, name, width, shape, count):
    """Writes images and weights that every contender loads; returns the file, operations and parameter bytes."""
    model = MODELS[name](10, width=width)
    images = jax.random.normal(jax.random.key(1), (count, *shape))
    weights = jax.jit(model.init)(jax.random.key(0), images[:1])
    flat = {}
    for part, tree in zip(("params", "stats"), weights, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            flat[f"{part}/" + "/".join(key.key for key in path)] = np.asarray(leaf)
    file = Path(folder) / f"{name}_{width}.npz"
    np.savez(file, model=name, width=width, images=np.asarray(images), **flat)
    analysis = jax.jit(model.apply).lower(weights, images[:1]).compile().cost_analysis()
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(weights.params))
    return file, 4 * analysis["flops"], 4 * parameters


def compare(title, setting, peer_python, repeats, operations, traffic):
    """Lets the contenders of one setting take turns; returns their rows."""
    contenders = [
        Contender("saal_jax", sys.executable, "jax_worker.py", "ours", setting),
        Contender("vmap, lax.conv", sys.executable, "jax_worker.py", "naive", setting),
    ]
    if peer_python:
        contenders += [
            Contender("PyTorch loop", peer_python, "torch_worker.py", "loop", setting),
            Contender("torch.func", peer_python, "torch_worker.py", "func", setting),
        ]
    ours = contenders[0]
    for contender in contenders[1:]:
        difference = np.max(np.abs(contender.scores - ours.scores) / np.abs(ours.scores))
        if not difference <= AGREEMENT:
            sys.exit(f"error: {title}: {contender.name} differs from saal_jax by {difference:.1e}, relative")
    for _ in range(repeats):
        for contender in contenders:
            contender.turn()
    for contender in contenders:
        contender.close()
    flops, bandwidth = rates()
    floor = 1 / (operations / flops + traffic / bandwidth)
    rows = []
    for contender in contenders:
        rate = len(ours.scores) / statistics.median(contender.seconds)
        rows.append(
            {
                "setting": title,
                "contender": contender.name,
                "examples_per_second": rate,
                "saal_jax_is_faster_by": rate and len(ours.scores) / statistics.median(ours.seconds) / rate,
                "fraction_of_floor": rate / floor,
                "peak_gib": contender.memory / 2**30,
                "first_call_seconds": contender.compile_seconds,
            }
        )
    rows.append({"setting": title, "contender": "floor", "examples_per_second": floor, "fraction_of_floor": 1.0})
    print(f"{title}: machine {flops / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s", file=sys.stderr)
    return rows


def main():
    """Reads the command line, runs every setting and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__.splitlines()[0])
    parser.add_argument("--peer_python", help="an interpreter that has PyTorch; without it only JAX is compared")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contender (default 5)")
    parser.add_argument("--setting", choices=SETTINGS, action="append", help="default: all")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title in arguments.setting or SETTINGS:
            setting, operations, traffic = prepare(folder, *SETTINGS[title])
            rows += compare(title, setting, arguments.peer_python, arguments.repeats, operations, traffic)
    print(f"{'':20}{'':16}{'examples/s':>12}{'ours / this':>12}{'of floor':>10}{'peak GiB':>10}{'first call':>12}")
    for row in rows:
        line = f"{row['setting']:20}{row['contender']:16}{row['examples_per_second']:>12,.1f}"
        if "peak_gib" in row:
            line += f"{row['saal_jax_is_faster_by']:>11.1f}x{row['fraction_of_floor']:>10.0%}"
            line += f"{row['peak_gib']:>10.2f}{row['first_call_seconds']:>10.1f} s"
        print(line)
    if arguments.json:
        device = jax.devices()[0].device_kind
        arguments.json.write_text(json.dumps({"device": device, "jax": jax.__version__, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
