"""The tables of a run, from what its checkpoints say: rewritten whole after every cycle."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.schema import Config
from saal_jax.paths import open_file

FIRST = ("num_labelled", "test_accuracy", "balanced_accuracy", "test_loss", "train_loss")  # columns of metrics.csv
SELECTIONS = ("seed", "cycle", "rank", "index", "example_id", "score", "pseudo_label", "label")
INITIAL_LABELS = ("seed", "index", "example_id", "label")  # and, where regions are bought, "region" before "label"
DIGESTS = ("seed", "cycle", "array", "sha256")
PHASES = ("query", "train", "test")


def write_tables(workdir: Path, config: Config, records: dict[int, dict[str, Any]]) -> None:
    """Writes config.json and every table, the seeds in the order of the config.

    A metric needs no schema: each number that a cycle measured is a column of metrics.csv, each number of a query one
    of query_metrics.csv, empty where it was not measured; a list of one per class is a table of its name.
    """
    write(workdir / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
    records = {seed: records[seed] for seed in config.seeds if seed in records}
    cycles = [(seed, number, cycle) for seed in records for number, cycle in enumerate(records[seed]["history"])]
    record = next(iter(records.values()))
    by_class = [f"class:{name}" for name in record["class_names"]]  # no name of a class hides another column
    measured = [(seed, number, _numbers(cycle["metrics"])) for seed, number, cycle in cycles]
    write_csv(workdir / "metrics.csv", *_wide(measured, FIRST))
    for name in [name for name, value in cycles[0][2]["metrics"].items() if isinstance(value, list)]:
        by_cycle = [(seed, number, _by_class(name, cycle["metrics"], by_class)) for seed, number, cycle in cycles]
        write_csv(workdir / f"{name}.csv", *_wide(by_cycle))
    write_csv(workdir / "class_counts.csv", ("seed", "cycle", "of", *by_class), _class_counts(records))
    query_metrics = [(seed, number, metrics) for seed, number, cycle in cycles if (metrics := cycle["query_metrics"])]
    if query_metrics:
        write_csv(workdir / "query_metrics.csv", *_wide(query_metrics))
    regions = "region" in record["history"][0]["asked"]
    columns = _with_region(INITIAL_LABELS, regions)
    first = [[seed, *row] for seed, number, cycle in cycles if number == 0 for row in _columns(cycle, *columns[1:])]
    write_csv(workdir / "initial_labels.csv", columns, first)
    columns = _with_region(SELECTIONS, regions)
    chosen = [
        [seed, number, rank, *row]
        for seed, number, cycle in cycles
        if number > 0
        for rank, row in enumerate(_columns(cycle, *columns[3:]))
    ]
    write_csv(workdir / "selections.csv", columns, chosen)
    digests = [
        [seed, number, array, digest] for seed, number, cycle in cycles for array, digest in cycle["digests"].items()
    ]
    write_csv(workdir / "digests.csv", DIGESTS, digests)
    timings = [
        [seed, number, *(f"{cycle['seconds'][phase]:.3f}" for phase in PHASES), *_peaks(cycle)]
        for seed, number, cycle in cycles
    ]
    by_phase = [f"{phase}_{unit}" for unit in ("seconds", "peak_mib") for phase in PHASES]
    write_csv(workdir / "timings.csv", ("seed", "cycle", *by_phase), timings)


def _wide(rows: list[tuple[int, int, dict[str, Any]]], first: Sequence[str] = ()) -> tuple[tuple[str, ...], list[list]]:
    """The header and the rows of a table with a column for every name: those in `first`, then as they come."""
    measured = dict.fromkeys(name for _, _, values in rows for name in values)
    names = [*(name for name in first if name in measured), *(name for name in measured if name not in first)]
    cells = [[seed, number, *(_text(values.get(name)) for name in names)] for seed, number, values in rows]
    return ("seed", "cycle", *names), cells


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that are numbers, and the balanced accuracy where there are accuracies by class."""
    numbers = {name: value for name, value in metrics.items() if not isinstance(value, list)}
    return numbers | ({"balanced_accuracy": _balanced(metrics)} if "class_accuracies" in metrics else {})


def _by_class(name: str, metrics: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The values of one per class; of accuracies their mean before them."""
    mean = {"balanced_accuracy": _balanced(metrics)} if name == "class_accuracies" else {}
    return mean | dict(zip(columns, metrics[name], strict=True))


def _balanced(metrics: dict[str, Any]) -> float:
    """The mean over the classes that have a test image."""
    return float(np.nanmean(metrics["class_accuracies"]))


def _class_counts(records: dict[int, dict[str, Any]]) -> Iterator[list]:
    """How many candidates of each class are labelled after each cycle, and how many are still in the pool; nothing
    where a label has no class.
    """
    for seed, record in records.items():
        if not record["class_counts"]:
            continue
        labelled = np.zeros(len(record["class_names"]), int)
        for number, cycle in enumerate(record["history"]):
            labelled = labelled + np.bincount(cycle["asked"]["label"], minlength=len(labelled))
            yield [seed, number, "labelled", *labelled.tolist()]
            yield [seed, number, "pool", *(np.array(record["class_counts"]) - labelled).tolist()]


def _peaks(cycle: dict[str, Any]) -> list[str]:
    """MiB by phase."""
    return [f"{cycle['peak_bytes'][phase] / 2**20:.0f}" for phase in PHASES]


def _with_region(columns: tuple[str, ...], regions: bool) -> tuple[str, ...]:
    """`columns`, with the region of an image beside its name."""
    after = columns.index("example_id") + 1
    return (*columns[:after], *["region"] * regions, *columns[after:])


def _columns(cycle: dict[str, Any], *names: str) -> Iterator[tuple]:
    asked = cycle["asked"]
    scores = {"score": ["" if score is None else f"{score:.9g}" for score in asked.get("score", ())]}
    return zip(*((asked | scores)[name] for name in names), strict=True)


def _text(value: Any) -> Any:
    if value is None:
        return ""
    return value if isinstance(value, int | str) else f"{value:.6f}"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """A table, written whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table; OSError where it cannot be read, ValueError where it is none."""
    with io.TextIOWrapper(open_file(path), "utf-8", newline="") as file:
        try:
            return list(csv.DictReader(file))
        except csv.Error as error:
            raise ValueError(str(error)) from None


def write(path: Path, text: str) -> None:
    """Replaces a file's content atomically."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)  # whatever was left there
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:  # a full disk does not say which file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
