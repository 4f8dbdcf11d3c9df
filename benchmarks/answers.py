"""What does a score know of the loss at the true label? `python -m benchmarks.answers --config=bccd_saal`.

Trains the first cycle of every seed of an experiment and prints, over all candidates that are not labelled, the rank
correlation of each score with the loss at the model's own answer, before any ascent, and with that at the true label.
"""

import argparse
import sys
from collections.abc import Callable

import jax
import numpy as np
from scipy.stats import spearmanr

from experiments import schema
from experiments.setup import Setup, build
from saal_jax.engine.sweep import score_pool
from saal_jax.errors import InputError
from saal_jax.loop import seed_key, simulate
from saal_jax.scores import max_perturbed_loss, sharpness, uncertainty


def main() -> int:
    """Reads the command line, trains, scores and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answers", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--config", default="digits_saal", help="the experiment (default digits_saal)")
    parser.add_argument("--data_dir", help="where data sets are")
    arguments, assignments = parser.parse_known_args()
    try:
        config = schema.override(schema.load(arguments.config), [*assignments, "--config.cycles=1"])
        setup = build(config, arguments.data_dir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tables = [correlations(setup, seed) for seed in config.seeds]
    print(f"{arguments.config}, seeds {', '.join(map(str, config.seeds))}, {config.initial_labels} labels")
    print(f"\n{'rank correlation with':24}{'loss at own answer':>24}{'loss at true label':>24}")
    for name in tables[0]:
        columns = np.array([table[name] for table in tables])
        cells = [f"{column.mean():.3f} +- {column.std(ddof=len(tables) > 1):.3f}" for column in columns.T]
        print(f"{name:24}{cells[0]:>24}{cells[1]:>24}")
    return 0


def correlations(setup: Setup, seed: int) -> dict[str, tuple[float, float]]:
    """By score, its rank correlations over all candidates left with the losses at the own answers and at the true."""
    problem = setup.problem
    task, recipe = problem.task, problem.recipe
    first = next(simulate(seed_key(seed), problem, setup.first(seed), setup.oracle))
    weights, left = first.state.trained.weights, ~first.state.labels.known
    examples = np.asarray(problem.pool.images), setup.answers

    def swept(score: Callable) -> np.ndarray:
        return np.asarray(score_pool(lambda weights, chunk: score(weights, *chunk), weights, examples)).ravel()[left]

    def losses(weights, images, labels):
        return task.by_candidate(jax.vmap(task.loss_fn)(recipe.apply(weights, images), labels))

    def at_own_answers(score: Callable) -> Callable:
        def of(weights, images, labels):
            at = {"loss_fn": task.loss_fn, "pseudo_label_fn": task.pseudo_label_fn}
            apply_fn = lambda params, images: recipe.apply(weights._replace(params=params), images)  # noqa: E731
            return task.by_candidate(score(apply_fn, weights.params, images, **at))

        return of

    def uncertain(fun: Callable, aggregation: str = "sum") -> Callable:
        return lambda weights, images, labels: task.uncertainty(fun, recipe.apply(weights, images), aggregation)

    own = swept(
        lambda weights, images, _: losses(
            weights, images, jax.vmap(task.pseudo_label_fn)(recipe.apply(weights, images))
        )
    )
    true = swept(losses)
    scores = {
        "perturbed loss": at_own_answers(max_perturbed_loss),
        "sharpness": at_own_answers(sharpness),
        "entropy": uncertain(uncertainty.entropy),
        "margin": uncertain(uncertainty.margin),
    }
    if task.classes_of == "box":
        scores |= {f"entropy, {how}": uncertain(uncertainty.entropy, how) for how in ("max", "mean")}
    rows = {"loss at own answer": own} | {name: swept(score) for name, score in scores.items()}
    return {name: (_rank(values, own), _rank(values, true)) for name, values in rows.items()}


def _rank(values, others):
    return float(spearmanr(values, others).statistic)


if __name__ == "__main__":
    sys.exit(main())
