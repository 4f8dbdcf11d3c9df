"""Seconds of a whole acquisition cycle, by phase, beside a PyTorch program: `python -m benchmarks.cycle`.

A turn is the next cycle of an experiment: query, train, evaluate. Cycle 0 and the first query, which compile, come
before; `compiled` counts programs compiled after them, and should be 0. The peer (`--peer_python`) scores the same
candidates image by image as the released program does, and has to agree in score at the first weights; from there on
it draws and trains for itself. Each contender is a process of its own. CIFAR-10 is measured where `--data_dir` is
given: width 16, two epochs.
"""

import functools
import sys
from pathlib import Path

import jax
import numpy as np

from benchmarks.contenders import Columns, Contender, Row, compete, parser, report
from benchmarks.jax_networks import save
from experiments.schema import Config, load, override
from experiments.setup import build

SETTINGS: dict[str, tuple[str, list[str]]] = {  # config, changes
    "digits_saal": ("digits_saal", []),
    "cifar10_saal width 16": ("cifar10_saal", ["--config.model.width=16", "--config.epochs=2"]),
}
PHASES = ("query", "train", "test")
COLUMNS: Columns = {
    **{f"{phase} s": (f"{phase}_seconds", ".2f") for phase in PHASES},
    "cycle s": ("cycle_seconds", ".2f"),
    "ours / this": ("saal_jax_is_faster_by", ".2f"),
    "accuracy": ("test_accuracy", ".1f"),
    "compiled": ("compilations", "d"),
    "peak GiB": ("peak_gib", ".2f"),
    "first two s": ("first_two_cycles_seconds", ".1f"),
}


def measure(title: str, folder: Path, peer_python: str | None, repeats: int, data_dir: str | None) -> list[Row]:
    """The rows of one setting."""
    name, changes = SETTINGS[title]
    changes = [*changes, f"--config.cycles={repeats + 1}"]
    contenders = [Contender("saal_jax", sys.executable, "jax_cycle_worker.py", data_dir or "", name, *changes)]
    if peer_python:
        file = folder / "setting.npz"
        _write(file, override(load(name), changes), data_dir)
        contenders.append(Contender("PyTorch", peer_python, "torch_cycle_worker.py", file))
    compete(title, contenders, repeats)
    rows = []
    for contender in contenders:
        last = contender.answers[-1]
        row: Row = {"contender": contender.name, **{f"{phase}_seconds": contender.median(phase) for phase in PHASES}}
        row["cycle_seconds"] = contender.median("seconds")
        row["saal_jax_is_faster_by"] = contender.median("seconds") / contenders[0].median("seconds")
        row["peak_gib"] = last["peak_bytes"] / 2**30
        row["first_two_cycles_seconds"] = contender.first_seconds
        rows.append(row | {key: last[key] for key in ("test_accuracy", "compilations") if key in last})
    return rows


def _write(file: Path, config: Config, data_dir: str | None) -> None:
    """What the peer needs to run the same experiment."""
    setup = build(config, data_dir)
    problem = setup.problem
    labelled = np.isin(np.arange(len(setup.answers)), setup.first(config.seeds[0]).indices)
    save(
        file,
        config.model.name,
        config.model.width,
        problem.recipe.init(jax.random.key(0)).weights,
        images=np.asarray(problem.pool.images),
        labels=setup.answers,
        test_images=np.asarray(problem.test.images),
        test_labels=problem.test.labels,
        mean=np.float32(setup.record["mean"]),
        std=np.float32(setup.record["std"]),
        labelled=labelled,
        augmented=config.augmentation is not None,
        optimizer=config.optimizer.name,
        learning_rate=config.optimizer.learning_rate,
        pool_subset=config.pool_subset or len(labelled),
        **{key: getattr(config, key) for key in ("query_size", "epochs", "batch_size", "warm_start")},
    )


def main() -> None:
    """Reads the command line, measures every setting and prints one table."""
    options = parser("cycle", __doc__, SETTINGS, repeats=5)
    options.add_argument("--data_dir", help="where TFDS data sets are; without it only digits is measured by default")
    arguments = options.parse_args()
    settings = SETTINGS if arguments.data_dir else ["digits_saal"]
    arguments.setting = arguments.setting or list(settings)
    report(functools.partial(measure, data_dir=arguments.data_dir), COLUMNS, arguments, SETTINGS)


if __name__ == "__main__":
    main()
