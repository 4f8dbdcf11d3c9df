"""The files of a run: what there is to continue from, and under which circumstances."""

import time
from pathlib import Path
from typing import Any

from experiments.environment import changes, environment
from experiments.schema import Config, validated
from experiments.tables import read_csv, write_csv
from saal_jax import checkpoint
from saal_jax.errors import InputError
from saal_jax.keys import DRAWS, restore_key

Saved = tuple[int, Any, dict[str, Any]]  # a checkpoint: (cycle, tree, record)

# keys that say no more than where the data lie
OF_SOURCE = ("source", "source_split", "source_test_split")
LOCATIONS = ("dataset", "split", "test_split", *OF_SOURCE, "embeddings", "max_resident")


def load(workdir: Path, config: Config) -> dict[int, Saved]:
    """What a run has to continue from: the newest intact checkpoint of every seed that has one.

    Refuses a run that was begun with another config, except for more cycles or more seeds, or by a version that draws
    otherwise, and results whose checkpoints are gone.
    """
    root = workdir / "checkpoints"
    newest = {seed: checkpoint.load_newest(root / f"seed_{seed}") for seed in checkpoint.saved_seeds(root)}
    checkpoints = {seed: saved for seed, saved in newest.items() if saved is not None}
    if not checkpoints and (workdir / "metrics.csv").exists():
        raise InputError(f"{workdir} has a metrics.csv but no checkpoint to continue from: name another --workdir")
    new = config.model_dump(mode="json")
    for seed, (cycle, _, record) in checkpoints.items():
        if record["seed"] != seed:
            raise InputError(f"{root}/seed_{seed} holds checkpoints of seed {record['seed']}: move them back")
        begun = record.get("draws", 1)
        if begun != DRAWS:
            than = "an earlier" if begun < DRAWS else "a later"
            raise InputError(
                f"{workdir} was begun by {than} version of saal_jax, which draws otherwise ({begun}, here {DRAWS}): "
                "continue it with that version, or name another --workdir"
            )
        changed = _changed(_with_defaults(record["config"]), new)
        if cycle <= config.cycles:
            changed.pop("cycles", None)
        if seed in config.seeds:
            changed.pop("seeds", None)
        for key in LOCATIONS:  # whether the data are the same, their digest shows
            changed.pop(key, None)
        if changed:
            listed = ", ".join(f"{key} ({old} -> {value})" for key, (old, value) in changed.items())
            raise InputError(
                f"{workdir} holds a run with another config: {listed}; only more cycles and added seeds continue it, "
                "so name another --workdir"
            )
    return checkpoints


def _with_defaults(old: dict[str, Any]) -> dict[str, Any]:
    """A config as it would be written today: keys that came later have their defaults."""
    try:
        return validated(old).model_dump(mode="json")
    except InputError:  # a key has gone since
        return old


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    old, new = _flat(old), _flat(new)
    return {key: (old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def check_flags(workdir: Path, checkpoints: dict[int, Saved]) -> None:
    """Refuses to continue where JAX would draw otherwise than when the run was begun."""
    new = environment()
    for _, tree, record in checkpoints.values():
        try:
            restore_key(tree["key"])
        except InputError as error:
            raise InputError(f"{workdir}: {error}") from None
        draws, _ = changes(record["environment"], new)
        if draws:
            raise InputError(
                f"{workdir} was begun under other flags of JAX: {', '.join(draws)}; set them back, or name another "
                "--workdir"
            )


def write_environment(workdir: Path, checkpoints: dict[int, Saved]) -> list[str]:
    """Appends the environment to environments.csv; returns what has changed since the last cycle in rounding."""
    before, new = _environments(workdir), environment()
    rows = [*before, {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **new}]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(workdir / "environments.csv", columns, [[row.get(name, "") for name in columns] for row in rows])
    each = [changes(record["environment"], new)[1] for _, _, record in checkpoints.values()]
    return list(dict.fromkeys(change for altered in each for change in altered))


def _environments(workdir: Path) -> list[dict[str, str]]:
    """The environments of all starts so far."""
    try:
        return [
            {name: value or "" for name, value in row.items() if name} for row in read_csv(workdir / "environments.csv")
        ]
    except (OSError, ValueError, AttributeError):  # none yet, or not ours
        return []


def needs_data(checkpoints: dict[int, Saved], config: Config) -> bool:
    """Whether only the data can show if a finished run is that of the config."""
    new = config.model_dump(mode="json")
    return any(
        _changed(_with_defaults(record["config"]), new).keys() & set(LOCATIONS) for _, _, record in checkpoints.values()
    )


def check_data(workdir: Path, checkpoints: dict[int, Saved], record: dict[str, Any]) -> None:
    """Refuses to continue on other data than a run was begun on; `record` is that of the data there is now."""
    for seed, (_, _, old) in checkpoints.items():
        if old["data"] != record["data"]:
            raise InputError(
                f"{workdir} was begun on other images or embeddings than there are now (seed {seed}): restore them, or "
                "name another --workdir"
            )
        if old["class_names"] != record["class_names"]:
            names = f"{', '.join(old['class_names'])} -> {', '.join(record['class_names'])}"
            raise InputError(
                f"{workdir} was begun with other class names: {names}; restore them, or name another --workdir"
            )
