"""Runs an active-learning experiment, or continues one: `python -m experiments.run --config=NAME`."""

from experiments import command

if __name__ == "__main__":
    command.stop_while_loading()

import argparse
import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import methods, report, schema, tables, workdir
from experiments.command import parse, path_of, warn
from experiments.estimate import estimate, free_disk
from experiments.lock import lock
from experiments.pictures import draw_queried
from experiments.processes import agree, check_platforms, end, join, on_first
from experiments.schema import Config
from experiments.setup import Setup, build
from experiments.workdir import Saved
from saal_jax import checkpoint
from saal_jax.engine.cpu import keep_memory
from saal_jax.errors import InputError
from saal_jax.keys import restore_key
from saal_jax.labels import nothing_known, tell
from saal_jax.loop import Asked, State, seed_key, simulate
from saal_jax.tasks import HEADLINES


@command.command(stopped="stopped; the same command continues after the last finished cycle")
def main(argv: list[str] | None = None) -> None:
    """Reads the command line and runs."""
    arguments, assignments = _parse(argv)
    keep_memory()
    if arguments.list:
        return print(methods.listing())
    base = schema.load(arguments.config)
    config = schema.override(base, assignments)
    name = Path(arguments.config).stem
    if config.acquisition.name != base.acquisition.name:
        name += f"_{config.acquisition.name}"
    directory = path_of("--workdir", arguments.workdir) or Path("results") / name
    data_dir = path_of("--data_dir", arguments.data_dir)
    if arguments.distributed:
        join()
    check_platforms()
    run(config, directory, data_dir, arguments.dry_run)


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows)) + 2
    return "\n".join(f"  {name:{width}}{text}" for name, text in rows.items())


def _parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    names = _table({name: schema.summary(name) for name in schema.names()})
    keys = _table({key: field.description or "" for key, field in schema.Config.model_fields.items()})
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        description=__doc__,
        epilog=f"configs:\n{names}\n\nkeys, as --config.KEY=VALUE (model, optimizer and acquisition have keys of "
        f"their own, as in --config.acquisition.rho=0.1):\n{keys}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--list", action="store_true", help="print the acquisition methods and what they cost, and stop"
    )
    action.add_argument("--config", help="a name from the list below, or the path of a config file")
    parser.add_argument("--data_dir", help="where TFDS data sets are (default: TFDS's own)")
    parser.add_argument(
        "--workdir",
        help="where results go (default: results/NAME, or results/NAME_METHOD)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="be one of several processes that run this same command: as Slurm, Open MPI or Kubernetes says, or as "
        "JAX_COORDINATOR_ADDRESS=HOST:PORT (of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID say",
    )
    parser.add_argument("--dry_run", action="store_true", help="print what the run would cost, and stop")
    return parse(parser, argv)


def run(config: Config, directory: Path, data_dir: Path | None = None, dry_run: bool = False) -> None:
    """Runs, or continues, every seed to its last cycle; records after each cycle."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"--workdir={directory} is a file: name a directory")
    with contextlib.ExitStack() as held:
        if not dry_run:
            on_first(lambda: held.enter_context(lock(directory)))
        agree("configs", config)
        checkpoints = on_first(workdir.load, directory, config)
        records = {seed: record for seed, (_, _, record) in checkpoints.items()}
        starts = {seed: start for seed in config.seeds if (start := _start(config, checkpoints.get(seed))) is not None}
        if starts:
            workdir.check_flags(directory, checkpoints)
        if starts or workdir.needs_data(checkpoints, config):
            setup = build(config, data_dir)
            agree("images", setup.record["data"])
            workdir.check_data(directory, checkpoints, setup.record)
        if not starts:
            print(f"{directory} is finished: seeds {', '.join(map(str, config.seeds))} have all their cycles")
            return None if dry_run else on_first(finish, directory, config, records)
        cost = estimate(setup, starts)
        print(cost)
        free = on_first(free_disk, directory)
        if cost.disk > free:
            raise InputError(f"{directory}: the checkpoints need {cost.disk:,} bytes, but only {free:,} are free there")
        if dry_run:
            return None
        on_first(_write_environment, directory, checkpoints)
        for seed in starts:
            run_seed(seed, config, setup, directory, records, checkpoints.pop(seed, None))
        return on_first(finish, directory, config, records)


def _start(config: Config, saved: Saved | None) -> int | None:
    """The cycle that a seed goes on with, or None where it has all of them or nothing is left to label."""
    if saved is None:
        return 0
    cycle, _, record = saved
    everything = record["history"][-1]["metrics"]["num_labelled"] == record["pool_size"]
    return None if everything or cycle >= config.cycles else cycle + 1


def run_seed(
    seed: int, config: Config, setup: Setup, directory: Path, records: dict[int, dict], saved: Saved | None
) -> None:
    """Goes through the cycles of one seed; a cycle counts once its checkpoint is on disk."""
    key, problem, state = seed_key(seed), setup.problem, None
    history: list[dict] = []
    if saved:
        cycle, tree, record = saved
        history = record["history"]
        target = {"train": problem.recipe.init(key), "labelled": np.zeros(0), "key": jax.random.key_data(key)}
        restored = jax.tree.map(jnp.array, checkpoint.into(target, tree))
        key, bought = restore_key(restored["key"]), np.flatnonzero(restored["labelled"])
        unknown = nothing_known(problem.task, len(problem.pool.ids))
        labels = tell(unknown, bought, setup.oracle(bought), problem.task)
        state = State(cycle, restored["train"], labels)
    progress = _Bars(f"seed {seed} cycle {len(history)}/{config.cycles}")
    cycles = simulate(key, problem, setup.first(seed), setup.oracle, state, progress)
    for state, asked, metrics, seconds, peak_bytes in cycles:
        progress.close()
        finished = {"metrics": metrics, "asked": _as_columns(setup, asked), "query_metrics": asked.metrics}
        finished |= {"seconds": seconds, "peak_bytes": peak_bytes}
        finished["digests"] = checkpoint.digests({"labelled": state.labels.known, "weights": state.trained.weights})
        history = [*history, finished]
        arrays = {"train": state.trained, "labelled": state.labels.known, "key": jax.random.key_data(key)}
        records[seed] = {**setup.record, "seed": seed, "config": config.model_dump(mode="json"), "history": history}
        headline = problem.task.headline
        on_first(draw_queried, directory / "queried.png", config.task.name, setup, asked)
        on_first(_record, seed, config, directory, records, arrays, state.cycle, metrics, seconds, headline)
        progress.title = f"seed {seed} cycle {len(history)}/{config.cycles}"
    if len(history) <= config.cycles:
        print(f"seed {seed}: all {len(problem.pool.ids)} images of the pool are labelled; no more cycles")


def _as_columns(setup: Setup, asked: Asked) -> dict[str, list]:
    """What was asked and answered, as lists by column; of labels their classes, where the task has such."""
    task, images = setup.problem.task, setup.problem.task.image_of(asked.indices)
    strata = task.strata or (lambda answers: [None] * len(images))
    columns = {
        "index": setup.positions[images],
        "example_id": setup.problem.pool.names[images],
        "label": strata(setup.oracle(asked.indices)),
    }
    if task.regions > 1:
        columns["region"] = task.region_of(asked.indices)
    if asked.predicted is not None:
        columns |= {"score": asked.scores, "pseudo_label": strata(asked.predicted)}
    return {
        name: [None if value != value else value for value in np.asarray(array).tolist()]
        for name, array in columns.items()
    }


def _write_environment(directory: Path, checkpoints: dict[int, Saved]) -> None:
    for change in workdir.write_environment(directory, checkpoints):
        warn(f"{change} since the last cycle: the same bytes are not promised")


def _record(
    seed: int,
    config: Config,
    directory: Path,
    records: dict[int, dict],
    arrays: dict[str, Any],
    cycle: int,
    metrics: dict[str, Any],
    seconds: dict[str, float],
    headline: str,
) -> None:
    """Saves a finished cycle and prints its line; does neither after a signal."""
    command.check()
    checkpoint.save(directory / "checkpoints" / f"seed_{seed}", cycle, arrays, records[seed])
    tables.write_tables(directory, config, records)
    _print_cycle(seed, config, cycle, metrics, seconds, headline)


def _print_cycle(
    seed: int, config: Config, cycle: int, metrics: dict[str, Any], seconds: dict[str, float], headline: str
) -> None:
    """One line for a finished cycle."""
    print(
        f"seed {seed} cycle {cycle}/{config.cycles}: {metrics['num_labelled']} labels, "
        f"{headline.replace('_', ' ')} {metrics[headline]:.2f} %, train loss {metrics['train_loss']:.4f}, "
        f"{sum(seconds.values()):.1f} s",
        flush=True,
    )
    if not np.isfinite([value for name, value in metrics.items() if name.endswith("_loss")]).all():
        warn("the loss is not finite: the weights have diverged, lower config.optimizer.learning_rate")


class _Bars:
    """A progress bar for each phase of a cycle, on a terminal only, and there of process 0."""

    def __init__(self, title: str):
        self.title = title
        self.phase: str | None = None
        self.bar: Any = None  # of tqdm

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self.phase or total != self.bar.total:
            self.close()
            hidden = True if jax.process_index() > 0 else None  # None: where there is no terminal
            self.phase, self.bar = phase, tqdm(total=total, desc=f"{self.title} {phase}", leave=False, disable=hidden)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.phase, self.bar = None, None


def finish(directory: Path, config: Config, records: dict[int, dict]) -> None:
    """Writes the tables once more, draws the curve beside the released one, and prints the summary."""
    tables.write_tables(directory, config, records)
    curves = {directory.name: report.read_curves(directory)}
    metric = HEADLINES[config.task.name]
    report.draw(directory / "curve.png", curves, report.released_curves(config.model_dump()), metric)
    print(report.table(curves, metric))
    print(f"picture: {directory / 'curve.png'}\nresults: {directory / 'metrics.csv'}")


if __name__ == "__main__":
    end(main)
