"""Runs an active-learning experiment, or continues one: `python -m experiments.run --config=NAME`."""

import argparse
import contextlib
import errno
import functools
import inspect
import json
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import config as configs
from experiments import report, workdir
from experiments.estimate import estimate, free_disk
from saal_jax import checkpoint, data
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.cycle import CycleState, Pool, Protocol, active_learning, first_labels, make_pool, seed_key
from saal_jax.errors import InputError
from saal_jax.models import MODELS
from saal_jax.optimizers import OPTIMIZERS
from saal_jax.preprocessing import AUGMENTATIONS, normalize
from saal_jax.training import Recipe, supervised


def main(argv=None) -> int:
    """Reads the command line and runs; returns the exit status."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    arguments, assignments = _parse(argv)
    try:
        config = configs.override(configs.load(arguments.config), assignments)
        directory = arguments.workdir or Path("results") / Path(arguments.config).stem
        run(config, directory, arguments.data_dir, arguments.dry_run)
        return 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated) as stop:
        print("\nstopped; the same command continues after the last finished cycle", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(
            f"error: no space left on the disk of {error.filename}: free some, then the same command continues",
            file=sys.stderr,
        )
        return 1


class Terminated(BaseException):
    """SIGTERM, as Ctrl-C is KeyboardInterrupt."""


def _terminate(*_):
    raise Terminated


def _parse(argv):
    names = "\n".join(f"  {name:26}{configs.summary(name)}" for name in configs.names())
    keys = "\n".join(f"  {key:26}{field.description or ''}" for key, field in configs.Config.model_fields.items())
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        description=__doc__,
        epilog=f"configs:\n{names}\n\nkeys, as --config.KEY=VALUE (model, optimizer and acquisition have keys of "
        f"their own, as in --config.acquisition.rho=0.1):\n{keys}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="a name from the list below, or the path of a config file")
    parser.add_argument("--data_dir", help="where TFDS data sets are (default: TFDS's own)")
    parser.add_argument("--workdir", type=Path, help="where results go (default: results/NAME)")
    parser.add_argument("--dry_run", action="store_true", help="print what the run would cost, and stop")
    arguments, rest = parser.parse_known_args(argv)
    unknown = [argument for argument in rest if not argument.startswith("--config.")]
    if unknown:
        parser.error(f"unknown argument {unknown[0]}; keys of the config are written --config.KEY=VALUE")
    return arguments, rest


class Setup(NamedTuple):
    """A config, made real: arrays on the device and functions that are compiled once."""

    protocol: Protocol
    recipe: Recipe
    acquire: Callable
    pool: Pool
    test: Pool
    class_names: tuple
    record: dict  # what a checkpoint tells about its model and data, beside the history


def build(config, data_dir) -> Setup:
    """Loads the data and puts model, optimizer, recipe and acquisition together."""
    loaded = data.load(config.dataset, split=config.split, data_dir=data_dir)
    images = loaded.train.images
    channels = images.shape[-1]
    mean = config.mean or [float(images[..., channel].mean() / 255) for channel in range(channels)]
    std = config.std or [max(float(images[..., channel].std() / 255), 1e-3) for channel in range(channels)]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise InputError(
                f"config.{key} has {len(values)} values, but the images of {config.dataset} have {channels} channels"
            )
    classes = len(loaded.class_names)
    model = {**config.model.model_dump(), "num_classes": classes}
    recipe = supervised(
        _call(MODELS, model),
        _call(OPTIMIZERS, config.optimizer.model_dump()),
        AUGMENTATIONS[config.augmentation],
        functools.partial(normalize, mean=mean, std=std),
        images.shape[1:],
    )
    protocol, pool = Protocol(*(getattr(config, key) for key in Protocol._fields)), make_pool(loaded.train)
    first_labels(seed_key(config.seeds[0]), protocol, pool, classes)  # refuses what cannot be begun
    return Setup(
        protocol,
        recipe,
        _call(ACQUISITIONS, config.acquisition.model_dump(), offers={"apply": recipe.apply}),
        pool,
        make_pool(loaded.test),
        loaded.class_names,
        {"model": model, "mean": list(mean), "std": list(std), "data": loaded.digest, "pool_size": len(images)},
    )


def _call(registry, options, offers=None):
    """Calls the function `options["name"]` of the registry with the other options and what it needs of `offers`."""
    options = dict(options)
    function = registry[options.pop("name")]
    needs = [key for key in inspect.signature(function).parameters if key in (offers or {})]
    return function(**{key: offers[key] for key in needs}, **options)


def run(config, directory, data_dir=None, dry_run=False):
    """Runs, or continues, every seed to its last cycle; records after each cycle."""
    with contextlib.nullcontext() if dry_run else workdir.lock(directory):
        workdir.check_config(directory, config)
        found = workdir.load_checkpoints(directory, config.seeds)
        remaining = [pair for seed in config.seeds for pair in _remaining(seed, config.cycles, found.get(seed))]
        if not remaining:
            print(f"{directory} is finished: all {len(config.seeds)} seeds have their {config.cycles} cycles")
            return finish(directory, config)
        setup = build(config, data_dir)
        for seed, (_, _, record) in found.items():
            if record["data"] != setup.record["data"]:
                raise InputError(
                    f"{directory} was begun on other images than {config.dataset} holds now (seed {seed}): "
                    "restore them, or name another --workdir"
                )
        cost = estimate(setup, remaining, len(config.seeds))
        print(cost)
        free = free_disk(directory)
        if cost.disk > free:
            raise InputError(f"{directory}: the checkpoints need {cost.disk:,} bytes, but only {free:,} are free there")
        if dry_run:
            return None
        directory.joinpath("checkpoints").mkdir(exist_ok=True)
        workdir.write(directory / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
        for change in workdir.write_environment(directory):
            warnings.warn(f"{change} since the last cycle: the same bytes are not promised", stacklevel=1)
        histories = {seed: found[seed][2]["history"] if seed in found else [] for seed in config.seeds}
        for seed in config.seeds:
            run_seed(seed, setup, directory, histories, found.pop(seed, None))
        return finish(directory, config)


def _remaining(seed, cycles, found):
    """The cycles that a seed still has to do, as pairs `(seed, cycle)`."""
    if found is None:
        return [(seed, cycle) for cycle in range(cycles + 1)]
    last, _, record = found
    if record["history"][-1]["metrics"]["num_labelled"] == record["pool_size"]:
        return []
    return [(seed, cycle) for cycle in range(last + 1, cycles + 1)]


def run_seed(seed, setup, directory, histories, found):
    """Goes through the cycles of one seed; a cycle counts once its checkpoint is on disk."""
    key, state = seed_key(seed), None
    if found:
        cycle, tree, _ = found
        target = {"train": setup.recipe.init(key), "labelled": np.zeros(0), "key": jax.random.key_data(key)}
        restored = jax.tree.map(jnp.array, checkpoint.into(target, tree))
        key = jax.random.wrap_key_data(restored["key"])
        state = CycleState(cycle, restored["train"], np.asarray(restored["labelled"]))
    workdir.write_tables(directory, histories, setup.pool.names, setup.class_names)
    total = setup.protocol.cycles
    progress = _Bars(f"seed {seed}")
    cycles = active_learning(
        key,
        setup.protocol,
        setup.recipe,
        setup.acquire,
        setup.pool,
        setup.test,
        len(setup.class_names),
        state,
        progress,
    )
    for state, result in cycles:
        progress.close()
        queried = {
            name: [None if value != value else value for value in array.tolist()]
            for name, array in result.queried.items()
        }
        histories[seed].append({"metrics": result.metrics, "queried": queried, "seconds": result.seconds})
        arrays = {"train": state.train, "labelled": state.labelled, "key": jax.random.key_data(key)}
        checkpoint.save(
            workdir.checkpoints(directory, seed), state.cycle, arrays, {**setup.record, "history": histories[seed]}
        )
        workdir.write_tables(directory, histories, setup.pool.names, setup.class_names)
        metrics = result.metrics
        print(
            f"seed {seed} cycle {state.cycle}/{total}: {metrics['num_labelled']} labels, "
            f"test accuracy {metrics['test_accuracy']:.2f} %, train loss {metrics['train_loss']:.4f}, "
            f"{sum(result.seconds.values()):.1f} s",
            flush=True,
        )
    if len(histories[seed]) <= total:
        print(f"seed {seed}: all {len(setup.pool.ids)} images of the pool are labelled; no more cycles")


class _Bars:
    """A progress bar for each phase of a cycle, on a terminal only."""

    def __init__(self, title):
        self.title, self.phase, self.bar = title, None, None

    def __call__(self, phase, done, total):
        if phase != self.phase:
            self.close()
            self.phase, self.bar = phase, tqdm(total=total, desc=f"{self.title} {phase}", leave=False, disable=None)
        self.bar.update(done - self.bar.n)

    def close(self):
        if self.bar is not None:
            self.bar.close()
        self.phase, self.bar = None, None


def finish(directory, config):
    """Draws the curve beside the released one, and prints the table."""
    curves = {directory.name: report.read_curves(directory)}
    report.draw(directory / "curve.png", curves, report.released_curves(config.model_dump()))
    print(report.table(curves))
    print(f"picture: {directory / 'curve.png'}\nresults: {directory / 'metrics.csv'}")


if __name__ == "__main__":
    sys.exit(main())
