"""What a run will cost, from a few timed steps of its own compiled programs."""

import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.setup import Setup
from saal_jax.engine.memory import bytes_per_example, on_disk
from saal_jax.engine.sweep import equal_chunk_size, score_available
from saal_jax.keys import make_key
from saal_jax.labels import nothing_known, tell
from saal_jax.loop import EVALUATION_CHUNK, Examples, answers_for, capacity, evaluate, make_training
from saal_jax.pool import Query, any_region
from saal_jax.training import TrainState
from saal_jax.typing import Key, PyTree

_CANDIDATES = 1024


class Cost(NamedTuple):
    """What is left to do, in counts, seconds and bytes."""

    labels: int
    steps: int
    scored: int
    tested: int
    seconds: float
    memory: int
    disk: int

    def __str__(self) -> str:
        return (
            f"{self.labels} labels per seed; to do: {self.steps:,} training steps, {self.scored:,} images to score, "
            f"{self.tested:,} to test\nestimate: {duration(self.seconds)}, "
            f"{self.memory / 2**30:.1f} GiB memory, {self.disk / 2**30:.2f} GiB disk"
        )


def estimate(setup: Setup, starts: dict[int, int]) -> Cost:
    """The cost of going on from the cycles in `starts` (by seed), from a few epochs on the first labels and a query."""
    problem = setup.problem
    protocol, recipe, pool, test = problem.protocol, problem.recipe, problem.pool, problem.test
    images = len(pool.ids)
    size = images * problem.task.regions
    last = min(protocol.cycles, -(-(size - protocol.initial_labels) // protocol.query_size))  # then all are labelled
    cycles = [cycle for start in starts.values() for cycle in range(start, last + 1)]
    labelled = [min(size, protocol.initial_labels + cycle * protocol.query_size) for cycle in cycles]
    most = [min(images, count) for count in labelled]  # images, if no two of the regions are of the same
    epochs = protocol.epochs or 0  # None beside a number of steps
    batch_size, num_source = protocol.batch_size, 0
    if problem.source:  # as `make_training` counts
        batch_size, num_source = max(1, batch_size // 2), len(problem.source.pool.ids) - images
    steps = sum(protocol.steps or epochs * -(-(count or num_source) // batch_size) for count in most)
    before = [protocol.initial_labels + (cycle - 1) * protocol.query_size for cycle in cycles if cycle > 0]
    scored = sum(min(size - count, protocol.pool_subset or size) for count in before)
    tested = len(cycles) * (len(test.images) + (len(problem.source.test.images) if problem.source else 0))

    key = make_key(0)
    state = recipe.init(key)
    weights = jax.tree.map(lambda leaf: leaf.copy(), state.weights)  # training donates its own
    few = np.arange(size) < min(
        size, protocol.initial_labels or protocol.query_size
    )  # as many as a recipe must be able to begin with

    first = np.flatnonzero(few)
    labels = tell(nothing_known(problem.task, images), first, setup.oracle(first), problem.task)
    training = make_training(problem, labels, False, 0)
    timed_steps = -(-int(training.labelled.sum()) // batch_size)

    def train_few(state: TrainState, epochs: int) -> TrainState:
        return jax.block_until_ready(recipe.train(key, state, training._replace(epochs=epochs, steps=None))[0])

    state = train_few(state, 1)
    once = _seconds(lambda: train_few(recipe.init(key), 1))
    thrice = _seconds(lambda: train_few(recipe.init(key), 3))
    per_step = max(thrice - once, 0.0) / 2 / timed_steps
    per_cycle = max(once - per_step * timed_steps, 0.0)  # stages of a recipe that do not grow with the epochs
    per_score, per_query, score_memory = _querying(setup, key, weights, few)
    few_tests = problem._replace(test=Examples(*jax.tree.map(lambda array: array[:EVALUATION_CHUNK], tuple(test))))
    evaluate(few_tests, weights)
    per_test = _seconds(lambda: evaluate(few_tests, weights)) / len(few_tests.test.images)

    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves((weights, state.opt_state)))
    held = [pool.images, test.images]
    held += [problem.source.pool.images, problem.source.test.images] if problem.source else []
    image_bytes = sum(array.nbytes for array in held if not on_disk(array))
    return Cost(
        labels=capacity(problem),
        steps=steps,
        scored=scored,
        tested=tested,
        seconds=len(cycles) * per_cycle
        + steps * per_step
        + sum(cycle > 0 for cycle in cycles) * per_query
        + scored * per_score
        + tested * per_test,
        memory=2 * image_bytes + 4 * pool.names.nbytes + 4 * state_bytes + score_memory + 2**29,
        disk=state_bytes * (2 * list(starts.values()).count(0) + 1),  # a new one is written before an old one goes
    )


def _querying(setup: Setup, key: Key, weights: PyTree, few: np.ndarray) -> tuple[float, float, int]:
    """Seconds per candidate, seconds per query beside them (of at most `_CANDIDATES`), and bytes that it takes."""
    problem, per_image, swept, memory = setup.problem, 0.0, 0.0, 0
    pool, mesh, task = problem.pool, problem.recipe.mesh, problem.task
    candidates = few if few.all() else ~few & (np.cumsum(~few) <= _CANDIDATES)

    def sweep(score_fn, weights, arrays, mask, **options):
        nonlocal per_image, swept, memory
        begun = time.perf_counter()
        devices = mesh.size if mesh else 1
        chunk = equal_chunk_size(score_fn, weights, arrays, options.get("most") or len(pool.ids), mesh)
        fixed, per_example = bytes_per_example(score_fn, weights, arrays, chunk)
        memory = max(memory, fixed + chunk * per_example)
        images = any_region(mask, len(pool.ids))
        first = mask & np.repeat(np.cumsum(images) <= chunk * devices, len(mask) // len(images))
        score = lambda: score_available(score_fn, weights, arrays, first, pool.names, mesh=mesh, **options)  # noqa: E731
        scores = score()
        per_image += _seconds(score) / (chunk * devices) * images.sum() / candidates.sum()
        swept += time.perf_counter() - begun
        return jax.tree.map(np.nan_to_num, scores)

    k = min(problem.protocol.query_size, len(few))
    classes = task.strata(setup.answers) if task.strata and task.regions == 1 else None
    query = Query(key, pool, few, candidates, k, weights, sweep, classes)
    acquire = functools.partial(problem.acquire, **answers_for(problem.acquire, setup.oracle))
    acquire(query)  # compiles
    per_image, swept = 0.0, 0.0
    whole = _seconds(lambda: acquire(query))
    return per_image, max(whole - swept, 0.0), memory


def _seconds(fun: Callable[[], Any]) -> float:
    start = time.perf_counter()
    fun()
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """Seconds in the largest unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:.1f} {unit}"
    return f"about {seconds:.0f} seconds"


def free_disk(workdir: Path) -> int:
    """Free bytes where the workdir is, or will be."""
    while not workdir.exists():
        workdir = workdir.absolute().parent
    return shutil.disk_usage(workdir).free
