"""Do cheaper scores choose the same images? `python -m benchmarks.ranking`.

Trains the first cycle of an experiment, scores its pool in float64, and prints for every precision of this device the
rank correlation with that, and for every fraction kept by screening the share of the exactly best that it keeps.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from benchmarks.trained import experiment, first_cycle, parser
from experiments.setup import build
from saal_jax.engine.sweep import PRECISIONS, score_pool
from saal_jax.scores import max_perturbed_loss

FRACTIONS = (0.05, 0.1, 0.2, 0.4)


def main() -> None:
    """Reads the command line, trains, scores and prints."""
    options = parser("ranking", __doc__)
    options.add_argument("--images", type=int, default=2000, help="how many of the pool are scored (default 2000)")
    arguments, config, setup = experiment(options)
    recipe, first = setup.problem.recipe, first_cycle(setup, config.seeds[0])
    weights, images = first.state.trained.weights, np.asarray(setup.problem.pool.images)[: arguments.images]

    def score_fn(weights, images):
        return max_perturbed_loss(lambda p, x: recipe.apply(weights._replace(params=p), x), weights.params, images)

    def narrow(weights, images):
        """Weights themselves in bfloat16."""
        return score_fn(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights), images)

    computing = build(config.but(precision="bfloat16"), arguments.data_dir).problem.recipe

    def in_bfloat16(weights, images):
        """The network's computation in bfloat16, as `--config.precision=bfloat16` has it."""
        return max_perturbed_loss(lambda p, x: computing.apply(weights._replace(params=p), x), weights.params, images)

    rows = {name: score_pool(score_fn, weights, images, precision=name) for name in PRECISIONS}
    rows["bfloat16 network"] = score_pool(in_bfloat16, weights, images)
    rows["bfloat16 weights"] = np.asarray(score_pool(narrow, weights, images), np.float32)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), weights)
        exact = score_pool(score_fn, wide, images)
    accuracy = first.metrics["test_accuracy"]
    print(
        f"{arguments.config}, {len(images)} images, test accuracy {accuracy:.1f} %, on {jax.devices()[0].device_kind}"
    )
    best = 100
    print(f"\n{'precision':20}{'rank correlation to float64':>30}{f'of the best {best}':>20}")
    for name, scores in rows.items():
        print(f"{name:20}{spearmanr(scores, exact).statistic:>30.6f}{shared(scores, exact, best, best):>20.0%}")
    logits = score_pool(recipe.apply, weights, images)
    clean = -jax.nn.log_softmax(logits).max(1)
    print(f"\n{'screening':20}{f'of the best {best}':>30}")
    for fraction in FRACTIONS:
        kept = max(best, int(fraction * len(images)))
        print(f"{fraction:<20}{shared(np.asarray(clean), exact, kept, best):>30.0%}")


def shared(scores: np.ndarray, exact: np.ndarray, kept: int, best: int) -> float:
    """The part of the `best` of `exact` that is among the `kept` best of `scores`."""
    return len(np.intersect1d(np.argsort(scores)[-kept:], np.argsort(exact)[-best:])) / best


if __name__ == "__main__":
    main()
