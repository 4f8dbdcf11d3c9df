"""Where the time of the score goes: `python -m benchmarks.phases --setting='resnet18 width 64'`.

Times programs that each do one thing more than the one before, in turns, and prints the differences of their medians.
"""

import argparse
import statistics
import time

import jax
import optax
from jax.stages import Compiled

from benchmarks.scoring import CLASSIFIERS as SETTINGS
from saal_jax import max_perturbed_loss
from saal_jax.engine.factors import value_and_factors
from saal_jax.models import MODELS, Weights
from saal_jax.scores.perturbed_loss import _in_flight

CHUNK = {"small_cnn 8x8": 1024, "resnet18 width 16": 128, "resnet18 width 64": 44}


def programs(
    name: str, width: int, shape: tuple[int, ...], chunk: int
) -> tuple[dict[str, Compiled], Weights, jax.Array]:
    """Compiled `(params, images)` programs, by what they do more than the one before; weights and images."""
    model = MODELS[name](10, width=width)
    images = jax.random.normal(jax.random.key(1), (chunk, *shape))
    weights = jax.jit(model.init)(jax.random.key(0), images[:1])

    def apply_fn(params, images):
        return model.apply(weights._replace(params=params), images)

    def loss_fn(params, image):
        logits = apply_fn(params, image[None])[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, logits.argmax()), ()

    factors_fn, gradients_fn = value_and_factors(loss_fn, weights.params, images[0])
    in_flight = _in_flight(weights.params, chunk)

    def shared_passes(params, images):
        return jax.vmap(factors_fn, (None, 0))(params, images)

    def gradient_norms(params, images):
        _, factors = shared_passes(params, images)
        norm = lambda factors: optax.tree.norm(jax.tree.map(lambda w, g: w * g, params, gradients_fn(factors)))  # noqa: E731
        return jax.lax.map(norm, factors, batch_size=in_flight if in_flight > 1 else None)

    steps = {
        "forward pass": apply_fn,
        "backward pass to the factors": shared_passes,
        "gradients and their norm": gradient_norms,
        "step and perturbed forward pass": lambda params, images: max_perturbed_loss(apply_fn, params, images),
    }
    compiled = {title: jax.jit(step).lower(weights.params, images).compile() for title, step in steps.items()}
    return compiled, weights, images


def main() -> None:
    """Reads the command line, times, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.phases", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setting", choices=SETTINGS, default="resnet18 width 64")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    name, width, shape, _ = SETTINGS[arguments.setting]
    chunk = CHUNK[arguments.setting]
    compiled, weights, images = programs(name, width, shape, chunk)
    seconds: dict[str, list[float]] = {title: [] for title in compiled}
    for turn in range(arguments.repeats + 1):
        for title, program in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(program(weights.params, images))
            if turn > 0:  # the first touches its memory for the first time
                seconds[title].append(time.perf_counter() - start)
    print(f"{arguments.setting}, chunks of {chunk}: milliseconds per example")
    before = 0.0
    for title, times in seconds.items():
        now = 1e3 * statistics.median(times) / chunk
        print(f"{title:34}{now - before:8.3f}")
        before = now
    print(f"{'together':34}{before:8.3f}")


if __name__ == "__main__":
    main()
