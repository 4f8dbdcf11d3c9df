"""What does a score know of the loss at the true label? `python -m benchmarks.answers --config=bccd_saal`.

Trains the first cycle of every seed of an experiment and prints, over all candidates that are not labelled, the rank
correlation of each score with the loss at the model's own answer, before any ascent, and with that at the true label.
"""

from collections.abc import Callable

import jax
import numpy as np
from scipy.stats import spearmanr

from benchmarks.trained import experiment, first_cycle, parser
from experiments.setup import Setup
from saal_jax.acquisitions.saal import score_at
from saal_jax.engine.sweep import score_pool
from saal_jax.scores import max_perturbed_loss, sharpness, uncertainty


def main() -> None:
    """Reads the command line, trains, scores and prints."""
    arguments, config, setup = experiment(parser("answers", __doc__))
    tables = [correlations(setup, seed) for seed in config.seeds]
    print(f"{arguments.config}, seeds {', '.join(map(str, config.seeds))}, {config.initial_labels} labels")
    print(f"\n{'rank correlation with':24}{'loss at own answer':>24}{'loss at true label':>24}")
    for name in tables[0]:
        columns = np.array([table[name] for table in tables])
        cells = [f"{column.mean():.3f} +- {column.std(ddof=len(tables) > 1):.3f}" for column in columns.T]
        print(f"{name:24}{cells[0]:>24}{cells[1]:>24}")


def correlations(setup: Setup, seed: int) -> dict[str, tuple[float, float]]:
    """By score, its rank correlations over all candidates left with the losses at the own answers and at the true."""
    problem = setup.problem
    task, recipe = problem.task, problem.recipe
    state = first_cycle(setup, seed).state
    weights, left = state.trained.weights, ~state.labels.known
    examples = np.asarray(problem.pool.images), setup.answers

    def swept(score: Callable) -> np.ndarray:
        return np.asarray(score_pool(lambda weights, chunk: score(weights, *chunk), weights, examples)).ravel()[left]

    def losses(weights, images, labels):
        """At these labels; None are the own answers."""
        outputs = recipe.apply(weights, images)
        return task.candidate_losses(outputs, jax.vmap(task.pseudo_label_fn)(outputs) if labels is None else labels)

    def at_own_answers(score: Callable) -> Callable:
        of_images = score_at(recipe.apply, score, loss_fn=task.loss_fn, pseudo_label_fn=task.pseudo_label_fn)
        return lambda weights, images, labels: task.by_candidate(of_images(weights, (images, None)))

    def uncertain(fun: Callable, aggregation: str = "sum") -> Callable:
        return lambda weights, images, labels: task.uncertainty(fun, recipe.apply(weights, images), aggregation)

    own = swept(lambda weights, images, labels: losses(weights, images, None))
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
    main()
