"""The files of a run: what there is to continue from, and the tables, rewritten whole after every cycle."""

import csv
import importlib.metadata
import io
import json
import os
import platform
from pathlib import Path

import jax
import numpy as np

from experiments.config import Config, checked
from saal_jax import checkpoint
from saal_jax.errors import InputError

METRICS = ("num_labelled", "test_accuracy", "balanced_accuracy", "test_loss", "train_loss")
SELECTIONS = ("seed", "cycle", "rank", "index", "example_id", "score", "pseudo_label", "label")
INITIAL_LABELS = ("seed", "index", "example_id", "label")
PHASES = ("query", "train", "test")


def load(workdir: Path, config: Config) -> dict:
    """What a run has to continue from: the newest intact checkpoint `(cycle, tree, record)` of every seed that has one.

    Refuses a run that was begun with another config, except for more cycles or more seeds, and results whose
    checkpoints are gone.
    """
    root = workdir / "checkpoints"
    saved = checkpoint.saved_seeds(root)
    found = {seed: checkpoint.load_newest(root / f"seed_{seed}") for seed in saved}
    found = {seed: loaded for seed, loaded in found.items() if loaded is not None}
    if not found and (workdir / "metrics.csv").exists():
        raise InputError(f"{workdir} has a metrics.csv but no checkpoint to continue from: name another --workdir")
    new = config.model_dump(mode="json")
    for seed, (cycle, _, record) in found.items():
        if record["seed"] != seed:
            raise InputError(f"{root}/seed_{seed} holds checkpoints of seed {record['seed']}: move them back")
        changes = _changes(_with_defaults(record["config"]), new)
        if cycle <= config.cycles:
            changes.pop("cycles", None)
        if seed in config.seeds:
            changes.pop("seeds", None)
        if changes:
            listed = ", ".join(f"{key} ({old} -> {value})" for key, (old, value) in changes.items())
            raise InputError(
                f"{workdir} holds a run with another config: {listed}; only more cycles and added seeds continue it, "
                "so name another --workdir"
            )
    return found


def _with_defaults(old):
    """A config as it would be written today: keys that came later have their defaults."""
    try:
        return checked(old).model_dump(mode="json")
    except InputError:  # a key has gone since
        return old


def _changes(old, new):
    old, new = _flat(old), _flat(new)
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)}


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def environment() -> dict:
    """What the bytes of a result depend on beside the config."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "saal_jax")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}"
        + (f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def write_environment(workdir: Path) -> list[str]:
    """Records the environment; returns what changed since the run was started elsewhere or with other versions."""
    path, new = workdir / "environment.json", environment()
    try:
        old = dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # none yet, or not ours
        old = new
    write(path, json.dumps(new, indent=2) + "\n")
    return [f"{key} {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]


def write_tables(workdir: Path, config: Config, records: dict):
    """Writes config.json and every table from what the checkpoints tell of each seed, in the order of the config."""
    write(workdir / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
    histories = {seed: records[seed]["history"] for seed in config.seeds if seed in records}
    class_names = next(iter(records.values()))["class_names"]
    cycles = [(seed, number, cycle) for seed, history in histories.items() for number, cycle in enumerate(history)]
    told = [(seed, number, cycle["query_metrics"]) for seed, number, cycle in cycles if cycle.get("query_metrics")]
    balanced = [float(np.nanmean(cycle["metrics"]["class_accuracies"])) for _, _, cycle in cycles]
    measured = [
        {"balanced_accuracy": mean, **cycle["metrics"]} for mean, (_, _, cycle) in zip(balanced, cycles, strict=True)
    ]
    columns = [*METRICS, *(["teacher_accuracy"] if "teacher_accuracy" in measured[0] else [])]
    metrics = [
        [seed, number, *(_number(values[key]) for key in columns)]
        for values, (seed, number, _) in zip(measured, cycles, strict=True)
    ]
    classes = [
        [seed, number, *map(_number, [mean, *cycle["metrics"]["class_accuracies"]])]
        for mean, (seed, number, cycle) in zip(balanced, cycles, strict=True)
    ]
    first = [
        [seed, index, name, label]
        for seed, number, cycle in cycles
        if number == 0
        for index, name, label in _columns(cycle, "index", "example_id", "label")
    ]
    chosen = [
        [seed, number, rank, index, name, "" if score is None else f"{score:.9g}", pseudo_label, label]
        for seed, number, cycle in cycles
        if number > 0
        for rank, (index, name, score, pseudo_label, label) in enumerate(_columns(cycle, *SELECTIONS[3:]))
    ]
    timings = [
        [seed, number, *(f"{cycle['seconds'][phase]:.3f}" for phase in PHASES)] for seed, number, cycle in cycles
    ]
    write_csv(workdir / "metrics.csv", ("seed", "cycle", *columns), metrics)
    write_csv(workdir / "class_accuracies.csv", ("seed", "cycle", "balanced_accuracy", *class_names), classes)
    write_csv(workdir / "initial_labels.csv", INITIAL_LABELS, first)
    write_csv(workdir / "selections.csv", SELECTIONS, chosen)
    if told:
        rows = [[seed, number, *map(_number, values.values())] for seed, number, values in told]
        write_csv(workdir / "query_metrics.csv", ("seed", "cycle", *told[0][2]), rows)
    write_csv(workdir / "timings.csv", ("seed", "cycle", *(f"{phase}_seconds" for phase in PHASES)), timings)


def _columns(cycle, *names):
    return zip(*(cycle["queried"][name] for name in names), strict=True)


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
    except OSError as error:  # a full disk does not say which file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
