"""Runs all acquisition methods in one setting and compares them: `python -m experiments.compare --config=NAME`.

Each method runs under the config's recipe or, where that does not offer what it needs, under one that does, and is
compared with Random under the same. Finished runs are read, unfinished ones continued.
"""

from experiments import command

if __name__ == "__main__":
    command.stop_while_loading()

import argparse
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from experiments import schema
from experiments.command import parse, path_of
from experiments.processes import check_platforms, end
from experiments.report import Curves, figures, interval, mean_sd, read_curves
from experiments.run import run
from experiments.setup import recipe_of
from experiments.tables import read_csv
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.engine.cpu import keep_memory
from saal_jax.errors import InputError
from saal_jax.recipes import RECIPES
from saal_jax.spec import make_acquisition, needs

# The defaults of a recipe are those of its paper, for thousands of labels; these are for fewer than a hundred at first.
FOR_FEW_LABELS = {"semi_supervised_loss_prediction": {"left_out": 2, "unlabelled_batch": 128}}
# Where several recipes offer what a method needs: that of its paper.
OF_ITS_PAPER = {"sslpm": "semi_supervised_loss_prediction"}
SAME_CHOICE = {"saal_bound"}  # as saal's, at thirty times the cost: left out unless asked for
# Beside every method as it is by default: SAAL's other modes, and its selection without its score.
VARIANTS = (
    "least_confidence:select=kmeans_plusplus",
    "saal:mode=max",
    "saal:mode=diff",
    "saal:mode=diff_diversity",
    "gradient_norm:labels=expected",
)
BOX_VARIANTS = ("entropy:aggregation=max", "entropy:aggregation=mean")
COLUMNS = ("recipe/method", "seeds", "final", "area", "s/query", "final - random", "p", "area - random", "p")


@command.command(stopped="stopped; the same command continues after the last finished cycle")
def main(argv: list[str] | None = None) -> None:
    """Reads the command line, runs what is missing, prints the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.compare", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="a name, or the path of a file; its acquisition is replaced")
    parser.add_argument("--methods", help="compare only these: NAME or NAME:KEY=VALUE:..., with commas between")
    parser.add_argument(
        "--part", default="1/1", help="run only this part of all runs, as in 1/2; prints what is finished"
    )
    parser.add_argument("--data_dir", help="where TFDS data sets are (default: TFDS's own)")
    parser.add_argument("--workdir", help="where results go (default: results/compare_NAME)")
    arguments, assignments = parse(parser, argv)
    keep_memory()
    base = schema.override(schema.load(arguments.config), assignments)
    root = path_of("--workdir", arguments.workdir) or Path("results") / f"compare_{Path(arguments.config).stem}"
    data_dir = path_of("--data_dir", arguments.data_dir)
    methods = _methods(arguments.methods) if arguments.methods else _possible(base)
    check_platforms()
    trials = trials_of(base, methods)
    for name in _part(sorted(trials), arguments.part):
        print(f"\n{name}", flush=True)
        run(trials[name], root / name, data_dir)
        jax.clear_caches()  # no two runs share a compiled function
    print(table({name: read_curves(root / name) for name in trials if _has_queried(root / name)}, root))


def _possible(base: schema.Config) -> list[str]:
    """All methods and variants that the task of the config knows."""
    variants = (*VARIANTS, *BOX_VARIANTS) if base.task.name == "detection" else VARIANTS
    return [method for method in (*sorted(ACQUISITIONS.keys() - SAME_CHOICE), *variants) if _runs(base, method)]


def _runs(base: schema.Config, method: str) -> bool:
    try:
        config = list(trials_of(base, [method]).values())[-1]
        make_acquisition(config.acquisition.model_dump(), _offers(config), config.recipe.name)
    except InputError:
        return False
    return True


def _methods(listed: str) -> list[str]:
    chosen = [method.strip() for method in listed.split(",")]
    for method in chosen:
        name, *options = method.split(":")
        if name not in ACQUISITIONS:
            raise InputError(f"--methods: there is no {name!r}; `python -m experiments.run --list` lists what there is")
        if any(option.startswith("name=") for option in options):
            raise InputError(f"--methods: {method} names two methods; put a comma between them")
    return chosen


def _part(names: list[str], part: str) -> list[str]:
    number, _, parts = part.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and len(part) < 20 and 1 <= int(number) <= int(parts)):
        raise InputError(f"--part={part}: write which part of how many, as in 1/2")
    return names[int(number) - 1 :: int(parts)]


def trials_of(base: schema.Config, methods: list[str]) -> dict[str, schema.Config]:
    """The config of every method, and of Random under each recipe that is used, by `recipe/method`."""
    base = base.but(acquisition={"name": "random"})  # and with that, every other at its own defaults
    trials = {}
    for method in methods:
        name, *options = method.split(":")
        preferred = OF_ITS_PAPER.get(name, base.recipe.name)
        under = next(
            (config for config in _recipes(base, preferred) if _offers(config).keys() >= set(needs(name))), None
        )
        if under is None:
            raise InputError(f"no recipe offers in {base.task.name} what {name} needs: {', '.join(needs(name))}")
        assignments = [f"--config.acquisition.{option}" for option in options]
        trials[f"{under.recipe.name}/random"] = under
        trials[f"{under.recipe.name}/{method}"] = schema.override(under.but(acquisition={"name": name}), assignments)
    return trials


def _recipes(base: schema.Config, first: str) -> Iterator[schema.Config]:
    """The config under every recipe, `first` first."""
    for name in dict.fromkeys([first, *RECIPES]):
        own = name == base.recipe.name
        options = FOR_FEW_LABELS.get(name, {}) if base.initial_labels < 100 else {}
        config = base if own else base.but(recipe={"name": name, **options})
        with contextlib.suppress(InputError):  # a recipe that does not know the task
            _offers(config)
            yield config


def _offers(config: schema.Config) -> dict:
    return _offers_under(config.but(acquisition={"name": "random"}))


@functools.lru_cache(maxsize=32)
def _offers_under(config: schema.Config) -> dict:
    task = config.task.model_dump()  # without an image_size, any that its grid divides
    size = config.image_size or (32 * task.get("rows", 1), 32 * task.get("columns", 1))
    shape = (*(size if isinstance(size, tuple) else (size, size)), 3)
    return recipe_of(config, 2, shape, (0.5,), (0.5,)).offers


def table(runs: dict[str, Curves], root: Path) -> str:
    """Final accuracy, area under the curve and seconds per query of runs named `recipe/method`, with their paired
    differences to Random under the same recipe. Seeds that have not come as far as the others are left out.
    """
    if not runs:
        return "nothing is finished yet"
    most = max(num_labelled[-1] for curves in runs.values() for num_labelled, _ in curves.values())
    finished = {
        name: {seed: curve for seed, curve in curves.items() if curve[0][-1] == most} for name, curves in runs.items()
    }
    measured = {name: figures(curves) for name, curves in finished.items() if curves}
    rows, paired = {}, {}
    for name, values in sorted(measured.items()):
        final, areas, *_ = np.array(list(values.values())).T
        seconds = np.median(_query_seconds(root / name))
        rows[name] = [name, str(len(values)), mean_sd(final), mean_sd(areas), f"{seconds:.2f}"]
        baseline = measured.get(f"{name.split('/')[0]}/random", {})
        seeds = sorted(values.keys() & baseline.keys())
        if len(seeds) >= 2 and not name.endswith("/random"):
            differences = np.array([values[seed] for seed in seeds]) - [baseline[seed] for seed in seeds]
            paired[name] = differences.T
    for figure in (0, 1):  # final accuracy, then area
        corrected = holm({name: _p_value(differences[figure]) for name, differences in paired.items()})
        for name, differences in paired.items():
            rows[name] += [interval(differences[figure]), f"{corrected[name]:.3f}"]
    padded = [[*row, *[""] * (len(COLUMNS) - len(row))] for row in (list(COLUMNS), *rows.values())]
    widths = [max(map(len, column)) for column in zip(*padded, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in padded]
    lines.append(
        f"Percent at {most} labels; mean +- sd over seeds. Differences are paired by seed, with a 95 % interval;"
    )
    lines.append(
        "p of the difference before it, corrected for the number of methods (Holm). Seconds: median of all queries."
    )
    if min(map(len, measured.values())) < 5:
        lines.append("Fewer than five seeds: too few to tell small differences from chance.")
    return "\n".join(lines)


def _p_value(differences: np.ndarray) -> float:
    """Of a t test that their mean is 0; 1 where all of them are."""
    from scipy import stats

    return float(stats.ttest_1samp(differences, 0).pvalue) if differences.any() else 1.0


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's correction: the i-th smallest of m times m - i + 1, never below the one before it, at most 1."""
    corrected, largest = {}, 0.0
    for number, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - number) * p))
        corrected[name] = largest
    return corrected


def _has_queried(workdir: Path) -> bool:
    return (workdir / "timings.csv").exists() and bool(_query_seconds(workdir))


def _query_seconds(workdir: Path) -> list[float]:
    try:
        return [float(row["query_seconds"]) for row in read_csv(workdir / "timings.csv") if row["cycle"] != "0"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{workdir}/timings.csv is not the table of a run: run its command again") from None


if __name__ == "__main__":
    end(main)
