"""What a network that computes in bfloat16 costs beside one in float32: `python -m benchmarks.precision`.

Bytes for one example: what is kept of its gradient (factors) beside the gradient itself, and what its score holds at
the worst moment as the sweep estimates it. Then examples scored and training steps (Adam) per second: both networks in
one process, in turns, medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.scoring import CLASSIFIERS as SETTINGS
from saal_jax import max_perturbed_loss, score_pool
from saal_jax.engine.cpu import keep_memory
from saal_jax.engine.factors import value_and_factors
from saal_jax.engine.memory import bytes_per_example
from saal_jax.models import COMPUTE_DTYPES, MODELS
from saal_jax.optimizers import adam
from saal_jax.preprocessing import normalize
from saal_jax.scores.perturbed_loss import loss_of_one
from saal_jax.tasks.classification import classification, cross_entropy, most_likely
from saal_jax.training import Ingredients, TrainState, make_epoch, make_step, supervised_loss
from saal_jax.typing import PyTree

IMAGES = {"small_cnn 8x8": 4096, "resnet18 width 16": 128, "resnet18 width 64": 22}  # scored per turn
STEPS = {"small_cnn 8x8": 200, "resnet18 width 16": 10, "resnet18 width 64": 2}  # trained per turn
BATCH = 10


def contender(
    name: str, width: int, images: jax.Array, dtype: str | None, steps: int
) -> tuple[tuple[int, int], dict[str, Callable]]:
    """Bytes of the factors and of the score of one example; and two programs, which score and train."""
    model = MODELS[name](10, dtype, width=width)
    weights = jax.jit(model.init)(jax.random.key(0), images[:1].astype(jnp.float32))
    prepare = partial(normalize, mean=(0.5,), std=(0.25,))

    def score_fn(weights, images):
        apply_fn = lambda params, images: model.apply(weights._replace(params=params), prepare(images))  # noqa: E731
        return max_perturbed_loss(apply_fn, weights.params, images)

    loss_fn = loss_of_one(lambda params, x: model.apply(weights._replace(params=params), x), cross_entropy, most_likely)
    example = jax.ShapeDtypeStruct(images.shape[1:], jnp.float32), None
    factors_fn, _ = value_and_factors(loss_fn, weights.params, *example)
    _, factors = jax.eval_shape(factors_fn, weights.params, *example)
    _, in_flight = bytes_per_example(score_fn, weights, images, 1024)

    ingredients = Ingredients(model, adam(), classification(10), prepare, images.shape[1:])
    epoch = make_epoch(make_step(supervised_loss(model, ingredients.task), ingredients), ingredients)
    labels = jnp.arange(len(images)) % 10
    batches = jnp.asarray(np.random.default_rng(0).integers(len(images), size=(steps, BATCH)), jnp.int32)

    def train():
        params = jax.tree.map(jnp.copy, weights)  # training donates its own
        state = TrainState(params, ingredients.optimizer.transformation.init(params.params))
        rates = {"learning": np.float32(1)}
        jax.block_until_ready(epoch(state, images, labels, batches, steps, jax.random.key(0), rates))

    return (_bytes(factors), in_flight), {"scoring": lambda: score_pool(score_fn, weights, images), "training": train}


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--setting", choices=SETTINGS, help="one alone (default: all)")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    keep_memory()
    for title in [arguments.setting] if arguments.setting else SETTINGS:
        name, width, shape, _ = SETTINGS[title]
        stored = np.random.default_rng(0).integers(256, size=(IMAGES[title], *shape), dtype=np.uint8)
        images, steps = jnp.asarray(stored), STEPS[title]
        both = {key: contender(name, width, images, dtype, steps) for key, dtype in COMPUTE_DTYPES.items()}
        seconds: dict[tuple[str, str], list[float]] = {
            (key, phase): [] for phase in ("scoring", "training") for key in both
        }
        for turn in range(arguments.repeats + 1):
            for (key, phase), times in seconds.items():
                start = time.perf_counter()
                both[key][1][phase]()
                if turn > 0:  # the first compiles
                    times.append(time.perf_counter() - start)
        counts = {"scoring": len(images), "training": steps}
        rates = {at: counts[at[1]] / statistics.median(times) for at, times in seconds.items()}
        shapes = jax.eval_shape(MODELS[name](10, width=width).init, jax.random.key(0), images[:1].astype(jnp.float32))
        print(f"{title}: a gradient has {_bytes(shapes.params):,} bytes")
        print(f"{'':12}{'factors':>14}{'score, in all':>16}{'examples/s':>14}{'steps/s':>12}")
        for key, (sizes, _) in both.items():
            speeds = f"{rates[key, 'scoring']:14,.1f}{rates[key, 'training']:12,.2f}"
            print(f"{key:12}{sizes[0]:14,}{sizes[1]:16,}{speeds}")
        ratios = [rates["bfloat16", phase] / rates["float32", phase] for phase in ("scoring", "training")]
        print(f"{'ratio':42}{ratios[0]:14.2f}{ratios[1]:12.2f}", flush=True)


if __name__ == "__main__":
    main()
