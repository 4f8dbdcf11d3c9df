"""The active-learning loop: fit on what is known, ask what to label next, add the answers.

`fit` and `ask` never see an answer that was not bought. `simulate` runs the whole loop, with an oracle that knows all.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.engine.devices import on_device
from saal_jax.engine.memory import lap
from saal_jax.engine.sweep import score_available, score_pool
from saal_jax.errors import InputError
from saal_jax.keys import make_key, named
from saal_jax.labels import Labels, nothing_known, parts_of, tell
from saal_jax.pool import Pool, Query, any_region, candidate_ids, stable_ids, subset
from saal_jax.source import Source, beside_source
from saal_jax.tasks import Task
from saal_jax.training import Recipe, Training, TrainState
from saal_jax.typing import Array, Images, Oracle, Progress, PyTree

EVALUATION_CHUNK = 500
_OUTPUT_BYTES = 2**28  # of what a network returns for a chunk


class Protocol(NamedTuple):
    """The numbers of an experiment: how many labels when, and how long to train. Where regions of images are bought,
    they are what `initial_labels`, `query_size` and `pool_subset` count.
    """

    initial_labels: int
    query_size: int
    cycles: int
    epochs: int | None
    batch_size: int
    pool_subset: int | None
    warm_start: bool
    steps: int | None = None  # instead of epochs: as many in every cycle, however many labels there are

    def epochs_of(self, num_labelled: int, batch_size: int | None = None) -> int:
        """How often a cycle goes through so many labelled examples; the last time not to the end, where steps say."""
        return self.epochs or -(-(self.steps or 1) // -(-num_labelled // (batch_size or self.batch_size)))


class Examples(NamedTuple):
    """Examples to measure on: `images[M, H, W, C]` uint8, as a `Pool` has them, and `labels`, a pytree of arrays
    `[M, ...]`.
    """

    images: Any
    labels: Any


class Problem(NamedTuple):
    """What stays the same over all cycles and seeds."""

    task: Task
    pool: Pool
    test: Examples
    recipe: Recipe
    acquire: Callable
    protocol: Protocol
    source: Source | None = None


class State(NamedTuple):
    """What continues a seed after `cycle`, beside its key: what was trained, and the labels it was trained on."""

    cycle: int
    trained: TrainState
    labels: Labels


class Asked(NamedTuple):
    """What to label next: `indices[k]` of candidates, in order of choice, `scores[k]` (NaN where a method has none),
    `predicted`, the model's own answers (a pytree of arrays `[k, ...]`; None before there is a model), and what else
    the acquisition measured, by name.

    A candidate is an image, or a region of one: where a task has R regions, index i is region `task.region_of(i)` of
    the image `task.image_of(i)` of the pool, and an answer is that part of its label.
    """

    indices: np.ndarray
    scores: np.ndarray
    predicted: Any
    metrics: dict


class Cycle(NamedTuple):
    """A finished cycle: its state, what was asked before it, what was measured after it, and by phase (query, train,
    test) how long it took and how many bytes were held at most.
    """

    state: State
    asked: Asked
    metrics: dict
    seconds: dict
    peak_bytes: dict


def make_pool(images: Images, names: np.ndarray, embeddings: np.ndarray | None = None) -> Pool:
    """Puts images `[N, H, W, C]` on the device, unless they lie on disk, and numbers them by their names `[N]`."""
    return Pool(on_device(images), stable_ids(names), names, embeddings)


def seed_key(seed: int) -> jax.Array:
    """The key that everything random of one seed is derived from."""
    return named(make_key(0), "seed", seed)


def capacity(problem: Problem) -> int:
    """How many candidates a seed has labelled in the end."""
    size, protocol = len(problem.pool.ids) * problem.task.regions, problem.protocol
    return min(size, protocol.initial_labels + protocol.cycles * protocol.query_size)


def first_labels(
    key: jax.Array, select: Callable, k: int, pool: Pool, classes: np.ndarray, num_classes: int, regions: int = 1
) -> Asked:
    """The first `k` candidates to label, the same for every method, of a task of R `regions`; a balanced `select` looks
    at their `classes[N * R]`.
    """
    ids = candidate_ids(pool, regions)
    chosen = np.asarray(select(named(key, "first labels"), classes, ids, num_classes, k).indices)
    return Asked(chosen, np.full(len(chosen), np.nan), None, {})


def fit(
    key: jax.Array, problem: Problem, labels: Labels, state: State | None = None, progress: Progress | None = None
) -> tuple[State, dict]:
    """Trains on what is known, from the weights of the cycle before or from new ones; returns `(State, metrics)`.

    Args:
      key: the key of the seed.
      problem: the problem.
      labels: what is known now.
      state: that of the cycle before; None for cycle 0.
      progress: called as `progress(phase, done, total)` along the way.

    A state's arrays are donated to the cycle after it where weights are carried over. Raises InputError where nothing
    is known.
    """
    if not labels.known.any() and problem.source is None:
        raise InputError("no label is known yet: add some answers to labels with saal_jax.tell")
    state, metrics, _ = _fit(key, problem, labels, state, progress or _silent)
    return state, metrics


def _fit(key, problem, labels, state, progress):
    """`fit`, and the laps after training and after measuring."""
    protocol, recipe = problem.protocol, problem.recipe
    cycle = 0 if state is None else state.cycle + 1
    start = state.trained if protocol.warm_start and state else recipe.init(named(key, "initial weights"))
    training = make_training(problem, labels, state.labels.known if state else False, cycle)
    report = lambda done, total: progress("train", done, total)  # noqa: E731
    trained, train_loss = recipe.train(named(key, "train", cycle), start, training, report)
    after_training = lap()
    costs = problem.task.costs(labels.known, labels.values) if problem.task.costs else {}
    metrics = {"num_labelled": int(labels.known.sum()), **costs, "train_loss": train_loss}
    metrics |= evaluate(problem, trained.weights, progress)
    return State(cycle, trained, labels), metrics, (after_training, lap())


def make_training(problem: Problem, labels: Labels, before: Any, cycle: int) -> Training:
    """What a cycle trains on: images of which any region is known; `before[N * R]` was known in the cycle before."""
    protocol, values = problem.protocol, jax.tree.map(jnp.asarray, labels.values)
    size = len(problem.pool.ids)
    labelled = any_region(labels.known, size)
    num_labelled, source = int(labelled.sum()), problem.source
    in_epoch, batch_size = num_labelled, protocol.batch_size
    if source:  # half a batch is of it; where nothing is bought yet, an epoch goes through the source
        in_epoch, batch_size = num_labelled or len(source.pool.ids) - size, max(1, batch_size // 2)
    training = Training(
        problem.pool,
        values,
        labelled,
        any_region(labels.known & ~np.asarray(before), size),
        cycle,
        protocol.cycles,
        protocol.epochs_of(in_epoch, batch_size),
        protocol.batch_size,
        min(size, max(capacity(problem), num_labelled)),  # a person may answer more than was asked
        protocol.steps,
    )
    return beside_source(training, source) if source else training


def ask(
    key: jax.Array, problem: Problem, state: State, oracle: Oracle | None = None, progress: Progress | None = None
) -> Asked:
    """Chooses what to label next, by what the trained model makes of the examples that are not known.

    `oracle(indices) -> answers` is for acquisitions that look at answers, which only a simulation has. One that needs
    it is refused where it is None.
    """
    progress, pool, protocol, task = progress or _silent, problem.pool, problem.protocol, problem.task
    size, ids = len(pool.ids), candidate_ids(pool, task.regions)
    query_key = named(key, "query", state.cycle + 1)
    available = subset(named(query_key, "subset"), ids, ~state.labels.known, protocol.pool_subset)

    def sweep(score_fn, weights, arrays, mask, **options):
        report = lambda done: progress("score", done, int(any_region(mask, size).sum()))  # noqa: E731
        options |= {"mesh": problem.recipe.mesh, "progress": report}
        return score_available(score_fn, weights, arrays, mask, pool.names, **options)

    k, weights = min(protocol.query_size, len(ids)), state.trained.weights
    classes = task.strata(state.labels.values) if task.strata and task.regions == 1 else None
    query = Query(named(query_key, "acquisition"), pool, state.labels.known, available, k, weights, sweep, classes)
    acquired = problem.acquire(query, **answers_for(problem.acquire, oracle))
    chosen = np.asarray(acquired.selection.indices)[: int(acquired.selection.count)]
    scores = np.asarray(acquired.scores)
    return Asked(chosen, scores[chosen], predict(problem, weights, chosen), acquired.metrics | _quantiles(scores))


def _quantiles(scores):
    """Of all scores there are, by name; nothing where a method has none."""
    there = scores[np.isfinite(scores)].astype(np.float64)
    if not there.size:
        return {}
    names = ("score_min", "score_q25", "score_median", "score_q75", "score_max")
    return dict(zip(names, np.quantile(there, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))


def answers_for(acquire: Callable, oracle: Oracle | None) -> dict:
    """`{"oracle": oracle}` for an acquisition that asks for it by that name; InputError where there is none."""
    if "oracle" not in inspect.signature(acquire).parameters:
        return {}
    if oracle is None:
        raise InputError("this acquisition looks at the answers, which only a simulation has: choose another")
    return {"oracle": oracle}


def simulate(
    key: jax.Array,
    problem: Problem,
    first: Asked,
    oracle: Oracle,
    state: State | None = None,
    progress: Progress | None = None,
) -> Iterator[Cycle]:
    """Yields a `Cycle` after every cycle from the first (or the one after `state`) to the last of the protocol.

    Cycle 0 trains on the `first` labels; every later one asks with the model of the one before. `oracle(indices)`
    returns the answers, for those positions alone that were chosen or that an acquisition asks for. Ends early when
    nothing is left to label. A yielded state is valid until the next step: its arrays are then donated.
    """
    progress = progress or _silent
    for _ in range(0 if state is None else state.cycle + 1, problem.protocol.cycles + 1):
        begun = lap()
        if state is None:
            asked, known = first, nothing_known(problem.task, len(problem.pool.ids))
        elif state.labels.known.all():
            return
        else:
            asked, known = ask(key, problem, state, oracle, progress), state.labels
        labels = tell(known, asked.indices, oracle(asked.indices), problem.task)
        after_query = lap()
        state, metrics, laps = _fit(key, problem, labels, state, progress)
        times, peaks = zip(begun, after_query, *laps, strict=True)
        yield Cycle(state, asked, metrics, _by_phase(np.diff(times).tolist()), _by_phase(peaks[1:]))


def _by_phase(values):
    return dict(zip(("query", "train", "test"), values, strict=True))


def predict(problem: Problem, weights: PyTree, indices: Array) -> PyTree:
    """The model's own answers for the candidates at `indices[k]`, a pytree of arrays `[k, ...]`."""
    task, recipe, pool = problem.task, problem.recipe, problem.pool
    images, rows = np.asarray(indices), np.arange(len(indices))
    if task.regions > 1:
        images, inverse = np.unique(task.image_of(images), return_inverse=True)
        rows = inverse * task.regions + task.region_of(np.asarray(indices))
    score_fn = _answering(recipe.apply, task.pseudo_label_fn)
    return parts_of(_over_chunks(score_fn, recipe, "apply", weights, (pool.images[images], None)), rows, task)


def evaluate(problem: Problem, weights: PyTree, progress: Progress | None = None) -> dict:
    """What the task measures on the test images, where the recipe has a teacher the headline of that, and all of the
    source's, if there is one.
    """
    task, test, recipe = problem.task, problem.test, problem.recipe
    progress, total = progress or _silent, test.images.shape[0]

    def measured(offer, test, report=None):
        score_fn = _measuring(recipe.offers[offer], task.measure)
        return task.summarize(_over_chunks(score_fn, recipe, offer, weights, tuple(test), report))

    metrics = measured("apply", test, lambda done: progress("test", done, total))
    if "teacher" in recipe.offers:
        metrics["teacher_" + task.headline.removeprefix("test_")] = measured("teacher", test)[task.headline]
    if problem.source:
        of_source = measured("apply", problem.source.test)
        metrics |= {"source_" + name.removeprefix("test_"): value for name, value in of_source.items()}
    return metrics


@functools.lru_cache(maxsize=64)  # the same function for the same arguments, so that it is compiled once
def _measuring(apply, measure):
    return lambda weights, examples: measure(apply(weights, examples[0]), examples[1])


@functools.lru_cache(maxsize=64)
def _answering(apply, pseudo_label_fn):
    return lambda weights, examples: jax.vmap(pseudo_label_fn)(apply(weights, examples[0]))


def _over_chunks(score_fn, recipe, offer, weights, examples, progress=None):
    """`score_fn` of `(images[N, ...], labels)`, in chunks of one size, smaller where an output is large."""
    images, _ = examples
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    outputs = jax.tree.leaves(jax.eval_shape(recipe.offers[offer], weights, one))
    most = max(1, _OUTPUT_BYTES // sum(leaf.size * leaf.dtype.itemsize for leaf in outputs))
    chunk_size = min(most, -(-EVALUATION_CHUNK // (recipe.mesh.size if recipe.mesh else 1)))
    return score_pool(score_fn, weights, examples, chunk_size=chunk_size, mesh=recipe.mesh, progress=progress)


def _silent(phase, done, total):
    pass
