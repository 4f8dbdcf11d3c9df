"""The files of a run: what there is to continue from, and the tables, rewritten whole after every cycle."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np

from experiments.config import Config, checked
from experiments.environment import changes, environment
from saal_jax import checkpoint
from saal_jax.errors import InputError

METRICS = ("num_labelled", "test_accuracy", "balanced_accuracy", "test_loss", "train_loss")
SELECTIONS = ("seed", "cycle", "rank", "index", "example_id", "score", "pseudo_label", "label")
INITIAL_LABELS = ("seed", "index", "example_id", "label")
LOCATIONS = ("dataset", "split", "test_split", "embeddings")  # keys that say no more than where the data lie
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
        if len(record["history"]) != cycle + 1:
            raise InputError(f"{root}/seed_{seed}/{cycle} is a copy of another cycle's checkpoint: remove it")
        changed = _changed(_with_defaults(record["config"]), new)
        if cycle <= config.cycles:
            changed.pop("cycles", None)
        if seed in config.seeds:
            changed.pop("seeds", None)
        for key in LOCATIONS:  # whether the data are the same, they tell themselves
            changed.pop(key, None)
        if changed:
            listed = ", ".join(f"{key} ({old} -> {value})" for key, (old, value) in changed.items())
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


def _changed(old, new):
    old, new = _flat(old), _flat(new)
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)}


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def check_flags(workdir: Path, found: dict):
    """Refuses to continue where JAX would draw otherwise than when the run was begun."""
    for _, _, record in found.values():
        draws, _ = changes(record.get("environment", {}), environment())
        if draws:
            raise InputError(
                f"{workdir} was begun under other flags of JAX: {', '.join(draws)}; set them back, or name another "
                "--workdir"
            )


def write_environment(workdir: Path, found: dict) -> list[str]:
    """Records the environment; returns what has changed in it since the last cycle and alters rounding."""
    path, new = workdir / "environment.json", environment()
    try:
        before = dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # none yet, or not ours
        before = {}
    write(path, json.dumps(new, indent=2) + "\n")
    each = [changes(record.get("environment", before), new)[1] for _, _, record in found.values()]
    return list(dict.fromkeys(change for altered in each for change in altered))


def needs_data(found: dict, config: Config) -> bool:
    """Whether only the data can tell if a finished run is that of the config, or what its tables should say."""
    return any(
        any(_with_defaults(record["config"]).get(key) != getattr(config, key) for key in LOCATIONS)
        or _counts_in_the_pool(record)
        for _, _, record in found.values()
    )


def check_data(workdir: Path, found: dict, record: dict):
    """Refuses to continue on other data than a run was begun on; `record` is that of the data there is now."""
    for seed, (_, _, old) in found.items():
        if old["data"] != record["data"]:
            why = ""
            if "environment" not in old:
                why = "; an older version wrote it, which dropped transparency, deeper folders and other suffixes"
            raise InputError(
                f"{workdir} was begun on other images or embeddings than there are now (seed {seed}{why}): restore "
                "them, or name another --workdir"
            )
        if old["class_names"] != record["class_names"]:
            names = f"{', '.join(old['class_names'])} -> {', '.join(record['class_names'])}"
            raise InputError(
                f"{workdir} was begun with other class names: {names}; restore them, or name another --workdir"
            )


def count_in_the_data_set(found: dict, names) -> None:
    """Rewrites `index` in records of older versions, which counted in the pool that an imbalance had left."""
    positions = None
    for _, _, record in found.values():
        if _counts_in_the_pool(record):
            positions = positions or {name: position for position, name in enumerate(names.tolist())}
            for cycle in record["history"]:
                cycle["queried"]["index"] = [positions[name] for name in cycle["queried"]["example_id"]]


def _counts_in_the_pool(record):
    return "environment" not in record and record["config"].get("imbalance", {"name": "natural"})["name"] != "natural"


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
    by_class = [f"class:{name}" for name in class_names]  # no name of a class hides another column
    write_csv(workdir / "class_accuracies.csv", ("seed", "cycle", "balanced_accuracy", *by_class), classes)
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
