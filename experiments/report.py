"""Compares finished runs: `python -m experiments.report WORKDIR... [--picture=FILE]`.

Prints final accuracy and area under the learning curve (mean and sd over seeds), paired differences to the last run
named, and draws all curves into one picture.
"""

from experiments import command

if __name__ == "__main__":
    command.stop_while_loading()

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.apart import where_apart
from experiments.command import path_of
from experiments.tables import read_csv
from saal_jax.errors import InputError
from saal_jax.paths import read_json
from saal_jax.tasks import HEADLINES

# {seed: (num_labelled[T], test_accuracy[T])}, or another column of metrics.csv for either
Curves = dict[int, tuple[np.ndarray, np.ndarray]]

RELEASED = Path(__file__).parent / "reference" / "saal_cifar10_released_curves.csv"


def headline(workdir: Path) -> str:
    """The metric that the curves of a run show: that of its task."""
    try:
        task = read_json(workdir / "config.json")["task"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # of an older version, or none
        task = "classification"
    return HEADLINES.get(task, "test_accuracy")


def read_curves(workdir: Path, against: str = "num_labelled") -> Curves:
    """The learning curves of a run, against the column `against` of its table."""
    try:
        rows = read_csv(workdir / "metrics.csv")
        if rows and against not in rows[0]:
            raise InputError(f"--against={against}: {workdir}/metrics.csv has no such column ({', '.join(rows[0])})")
        curves = _curves(rows, headline(workdir), against)
    except InputError:
        raise
    except OSError:
        raise InputError(f"{workdir} has no metrics.csv: name the workdir of a run") from None
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"{workdir}/metrics.csv is not the table of a run: run its command again") from None
    if not curves:
        raise InputError(f"{workdir} has no finished cycle yet: run its command again")
    return curves


def released_curves(config: dict[str, Any]) -> Curves:
    """The curves the SAAL authors released for this setting (CIFAR-10 only), by seed; empty where there are none."""
    try:
        if config["dataset"] != "cifar10" or config["model"]["name"] != "resnet18":
            return {}
        optimizer = config["optimizer"]["name"]
    except (KeyError, TypeError):  # not the config of a run
        return {}
    with open(RELEASED, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["optimizer"] == optimizer]
    return _curves(rows, "test_accuracy_percent", "num_labelled")


def _curves(rows: Iterable[dict[str, str]], column: str, against: str) -> Curves:
    points: dict[int, list[tuple[float, float]]] = defaultdict(list)
    number = int if against == "num_labelled" else float
    for row in rows:
        points[int(row["seed"])].append((number(row[against]), float(row[column])))
    curves = {}
    for seed, pairs in points.items():
        num_labelled, accuracy = zip(*pairs, strict=True)
        curves[seed] = np.array(num_labelled), np.array(accuracy)
        if (np.diff(curves[seed][0]) <= 0).any() and against == "num_labelled" or not np.isfinite(accuracy).all():
            raise ValueError("labels do not rise, or an accuracy is not finite")
    return curves


def area(num_labelled: np.ndarray, accuracy: np.ndarray) -> float:
    """Area under the learning curve divided by its width: the mean accuracy over the labels bought, in percent."""
    if len(num_labelled) == 1:
        return float(accuracy[0])
    return float(np.trapezoid(accuracy, num_labelled) / (num_labelled[-1] - num_labelled[0]))


def between(low: int, high: int, curves: Curves) -> Curves:
    """The part of each curve from `low` to `high` labels."""
    kept = {seed: (num_labelled >= low) & (num_labelled <= high) for seed, (num_labelled, _) in curves.items()}
    return {seed: (num_labelled[kept[seed]], accuracy[kept[seed]]) for seed, (num_labelled, accuracy) in curves.items()}


# The columns of a report: each a figure of a curve `(num_labelled, values)`; {} is what the values are.
FIGURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "final {}": lambda num_labelled, values: values[-1],
    "area under curve": area,
}


def figures(curves: Curves) -> dict[int, tuple[float, ...]]:
    """Per seed: each of `FIGURES`."""
    return {seed: tuple(figure(*curve) for figure in FIGURES.values()) for seed, curve in curves.items()}


def on_one_grid(runs: dict[str, Curves], points: int = 50) -> dict[str, Curves]:
    """All curves at the same values of their first axis, from the largest first to the smallest last; linear between
    what was measured. For an axis that differs between seeds, such as the number of boxes bought.
    """
    ends = [(axis[0], axis[-1]) for curves in runs.values() for axis, _ in curves.values()]
    low, high = max(first for first, _ in ends), min(last for _, last in ends)
    if low >= high:
        raise InputError(f"the runs have no range in common: one begins at {low}, another ends at {high}")
    grid = np.unique(np.linspace(low, high, points).astype(int))
    return {
        name: {seed: (grid, np.interp(grid, axis, values)) for seed, (axis, values) in curves.items()}
        for name, curves in runs.items()
    }


def table(runs: dict[str, Curves], metric: str = "test_accuracy", against: str = "num_labelled") -> str:
    """Mean and sd of the final value and the area under the curve, and each run's paired difference to the last one.

    Looked at is what lies between the fewest and the most labels at which all curves have an accuracy.
    """
    grids = [set(num_labelled.tolist()) for curves in runs.values() for num_labelled, _ in curves.values()]
    shared, every = set.intersection(*grids), set.union(*grids)
    if not shared:
        raise InputError(
            "the runs have no number of labels in common: compare runs of one config.initial_labels and one "
            "config.query_size"
        )
    low, high = min(shared), max(shared)
    measured = {name: figures(between(low, high, curves)) for name, curves in runs.items()}
    what, count = metric.removeprefix("test_"), "labels" if against == "num_labelled" else against.removeprefix("num_")
    lines = [f"{'':24}{count:>8}{'seeds':>7}" + _cells(title.format(what) for title in FIGURES)]
    for name, values in measured.items():
        lines.append(f"{name:24}{high:>8}{len(values):>7}" + _cells(map(mean_sd, np.array(list(values.values())).T)))
    *others, base = measured
    for name in others:
        seeds = sorted(measured[name].keys() & measured[base].keys())
        if len(seeds) >= 2:
            differences = np.array([measured[name][seed] for seed in seeds]) - [measured[base][seed] for seed in seeds]
            lines.append(f"{name + ' - ' + base:39}" + _cells(map(interval, differences.T)))
    lines.append("Percent; mean +- sd over seeds.")
    if others:
        lines[-1] += " Differences are paired by seed, with a 95 % confidence interval (t)."
    if (low, high) != (min(every), max(every)):
        lines.append(
            f"Compared from {low} to {high} {count}, which every seed has; there are {min(every)} to {max(every)}."
        )
    if min(map(len, runs.values())) < 5:
        lines.append("Fewer than five seeds: too few to tell small differences from chance.")
    return "\n".join(lines)


def _cells(texts: Iterable[str]) -> str:
    return "".join(f"{text:>20}" for text in texts)


def mean_sd(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{values.mean():.2f} +- {values.std(ddof=1):.2f}" if len(values) > 1 else f"{values.mean():.2f}"


def interval(differences: np.ndarray) -> str:
    """Mean and half the width of its 95 % confidence interval (t)."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return f"{differences.mean():+.2f} +- {half:.2f}"


def draw(
    path: Path,
    runs: dict[str, Curves],
    released: Curves,
    metric: str = "test_accuracy",
    against: str = "num_labelled",
) -> None:
    """Learning curves: mean over seeds, with a band of one sd, and the released curves in grey."""
    from matplotlib.figure import Figure  # without pyplot no screen is asked for

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    if released:
        most = max(num_labelled[-1] for curves in runs.values() for num_labelled, _ in curves.values())
        num_labelled, mean, _ = _band(between(0, most, released))
        label = f"SAAL, released by the authors ({len(released)} seeds)"
        axes.plot(num_labelled, mean, color="grey", linestyle="--", label=label)
    for name, curves in runs.items():
        num_labelled, mean, sd = _band(curves)
        label = f"{name} ({len(curves)} seeds)".replace("$", r"\$")
        label = f" {label}" if label.startswith("_") else label  # else the legend would leave it out
        (line,) = axes.plot(num_labelled, mean, marker="o", markersize=3, label=label)
        axes.fill_between(num_labelled, mean - sd, mean + sd, color=line.get_color(), alpha=0.2, linewidth=0)
    labels = {"num_labelled": "labels", "num_boxes": "boxes bought", "num_pixels": "pixels bought"}
    labels |= {"num_labelled": "labelled images"} if metric == "test_accuracy" else {}
    axes.set(xlabel=labels.get(against, against), ylabel=f"{metric.replace('_', ' ')} (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    temporary = path.with_name(path.name + ".new")
    figure.savefig(temporary, dpi=150, format=path.suffix[1:] or "png")
    temporary.replace(path)


def _band(curves: Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of labels, mean and sd over seeds, where all of them have a value."""
    length = min(len(num_labelled) for num_labelled, _ in curves.values())
    accuracy = np.array([accuracy[:length] for _, accuracy in curves.values()])
    return next(iter(curves.values()))[0][:length], accuracy.mean(0), accuracy.std(0)


@command.command(stopped="stopped")
def main(argv: list[str] | None = None) -> None:
    """Reads the command line, draws and prints."""
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__.splitlines()[0])
    parser.add_argument("workdir", nargs="+", help="finished runs; the last one is what the others are compared with")
    parser.add_argument("--picture", default="results/curves.png", help="default: %(default)s")
    parser.add_argument(
        "--where_apart", action="store_true", help="say in which cycle and array two runs part, and stop"
    )
    parser.add_argument(
        "--against", default="num_labelled", help="column of metrics.csv on the first axis, such as num_boxes"
    )
    arguments = parser.parse_args(argv)
    against = arguments.against
    workdirs = [path_of("WORKDIR", workdir) for workdir in arguments.workdir]
    picture = path_of("--picture", arguments.picture)
    if arguments.where_apart:
        if len(workdirs) != 2:
            raise InputError(f"--where_apart compares two workdirs, not {len(workdirs)}: name two")
        return print(where_apart(*workdirs))
    names = [workdir.name for workdir in workdirs]
    names = names if len(set(names)) == len(names) else [str(workdir) for workdir in workdirs]
    metrics = {headline(workdir) for workdir in workdirs}
    if len(metrics) > 1:
        raise InputError(f"the runs measure different things ({', '.join(sorted(metrics))}): compare runs of one task")
    (metric,) = metrics
    runs = {name: read_curves(workdir, against) for name, workdir in zip(names, workdirs, strict=True)}
    runs = runs if against == "num_labelled" else on_one_grid(runs)
    if picture.suffix not in (".png", ".pdf", ".svg") or picture.is_dir():
        raise InputError(f"--picture={picture}: name a file that ends in .png, .pdf or .svg")
    try:
        config = read_json(workdirs[0] / "config.json")
    except (OSError, ValueError):
        config = {}
    picture.parent.mkdir(parents=True, exist_ok=True)
    text = table(runs, metric, against)
    draw(picture, runs, released_curves(config) if against == "num_labelled" else {}, metric, against)
    print(text)
    print(f"picture: {picture}")
    print("results: " + ", ".join(f"{workdir}/metrics.csv" for workdir in workdirs))


if __name__ == "__main__":
    sys.exit(main())
