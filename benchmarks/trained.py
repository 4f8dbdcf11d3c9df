"""What benchmarks of a trained model share: an experiment from the command line, and its first cycle."""

import argparse
import sys

from experiments import schema
from experiments.schema import Config
from experiments.setup import Setup, build
from saal_jax.errors import InputError
from saal_jax.loop import Cycle, seed_key, simulate


def parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """The command line, described by the first line of a module's `doc`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=(doc or "").partition("\n")[0])
    parser.add_argument("--config", default="digits_saal", help="the experiment (default digits_saal)")
    parser.add_argument("--data_dir", help="where data sets are")
    return parser


def experiment(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Config, Setup]:
    """The arguments, the config, and what it makes; ends with status 2 where that cannot be."""
    arguments, assignments = parser.parse_known_args()
    try:
        config = schema.override(schema.load(arguments.config), [*assignments, "--config.cycles=1"])
        return arguments, config, build(config, arguments.data_dir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def first_cycle(setup: Setup, seed: int) -> Cycle:
    """Trained on the first labels."""
    return next(simulate(seed_key(seed), setup.problem, setup.first(seed), setup.oracle))
