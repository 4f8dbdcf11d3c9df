"""The files of a run: the lock, the config it may continue with, and the tables, rewritten whole after every cycle."""

import contextlib
import csv
import fcntl
import importlib.metadata
import io
import json
import os
import platform
from pathlib import Path

import jax
import numpy as np

from experiments.config import Config
from saal_jax import checkpoint
from saal_jax.errors import InputError

METRICS = ("seed", "cycle", "num_labelled", "test_accuracy", "test_loss", "train_loss")
SELECTIONS = ("seed", "cycle", "rank", "index", "example_id", "score", "pseudo_label", "label")
INITIAL_LABELS = ("seed", "index", "example_id", "label")
PHASES = ("query", "train", "test")


@contextlib.contextmanager
def lock(workdir: Path):
    """Holds the workdir for this process; the system lets go of it when the process ends, however it ends."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / ".lock", "a+")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be written ({error.strerror}); name another") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise InputError(
                f"--workdir={workdir} is in use by process {file.read().strip()}: wait for it, or name another"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if os.listdir(workdir) == [".lock"]:  # nothing came of it: leave nothing behind
                os.unlink(workdir / ".lock")
                workdir.rmdir()


def check_config(workdir: Path, config: Config):
    """Refuses to continue a run with another config, except for more cycles or more seeds."""
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        old = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is not JSON: restore it, or name another --workdir") from None
    new = config.model_dump(mode="json")
    differing = sorted(
        key for key in _flat(old).keys() | _flat(new).keys() if _flat(old).get(key) != _flat(new).get(key)
    )
    if "cycles" in differing and new["cycles"] > old["cycles"]:
        differing.remove("cycles")
    if "seeds" in differing and set(old["seeds"]) <= set(new["seeds"]):
        differing.remove("seeds")
    if differing:
        changes = ", ".join(f"{key} ({_flat(old).get(key)} -> {_flat(new).get(key)})" for key in differing)
        raise InputError(
            f"{workdir} holds a run with another config: {changes}; only more cycles and added seeds continue it, "
            "so name another --workdir"
        )


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def checkpoints(workdir: Path, seed: int) -> Path:
    """Where the checkpoints of a seed lie."""
    return workdir / "checkpoints" / f"seed_{seed}"


def load_checkpoints(workdir: Path, seeds) -> dict:
    """The newest intact checkpoint of every seed that has one, by seed: `(cycle, tree, record)`."""
    found = {seed: checkpoint.load_newest(checkpoints(workdir, seed)) for seed in seeds}
    return {seed: loaded for seed, loaded in found.items() if loaded is not None}


def environment() -> dict:
    """What the bytes of a result depend on beside the config."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "saal_jax")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def write_environment(workdir: Path) -> list[str]:
    """Records the environment; returns what changed since the run was started elsewhere or with other versions."""
    path, new = workdir / "environment.json", environment()
    old = json.loads(path.read_text()) if path.exists() else new
    write(path, json.dumps(new, indent=2) + "\n")
    return [f"{key} {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]


def write_tables(workdir: Path, histories: dict, names, class_names):
    """Writes every table from the cycles of each seed: `{seed: [{"metrics", "queried", "seconds"}, ...]}`."""
    cycles = [(seed, number, cycle) for seed, history in histories.items() for number, cycle in enumerate(history)]
    metrics = [
        [seed, number, *(_number(cycle["metrics"][key]) for key in METRICS[2:])] for seed, number, cycle in cycles
    ]
    classes = [
        [
            seed,
            number,
            *map(_number, [np.nanmean(cycle["metrics"]["class_accuracies"]), *cycle["metrics"]["class_accuracies"]]),
        ]
        for seed, number, cycle in cycles
    ]
    first = [
        [seed, index, names[index], label]
        for seed, number, cycle in cycles
        if number == 0
        for index, label in zip(cycle["queried"]["index"], cycle["queried"]["label"], strict=True)
    ]
    chosen = [
        [seed, number, rank, index, names[index], "" if score is None else f"{score:.9g}", pseudo_label, label]
        for seed, number, cycle in cycles
        if number > 0
        for rank, (index, score, pseudo_label, label) in enumerate(
            zip(*(cycle["queried"][key] for key in ("index", "score", "pseudo_label", "label")), strict=True)
        )
    ]
    timings = [
        [seed, number, *(f"{cycle['seconds'][phase]:.3f}" for phase in PHASES)] for seed, number, cycle in cycles
    ]
    write_csv(workdir / "metrics.csv", METRICS, metrics)
    write_csv(workdir / "class_accuracies.csv", ("seed", "cycle", "balanced_accuracy", *class_names), classes)
    write_csv(workdir / "initial_labels.csv", INITIAL_LABELS, first)
    write_csv(workdir / "selections.csv", SELECTIONS, chosen)
    write_csv(workdir / "timings.csv", ("seed", "cycle", *(f"{phase}_seconds" for phase in PHASES)), timings)


def _number(value):
    return value if isinstance(value, int) else f"{value:.6f}"


def write_csv(path: Path, header, rows):
    """A table, written whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write(path, text.getvalue())


def write(path: Path, text: str):
    """Replaces a file's content atomically."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
