"""The active-learning loop: query, label, train, evaluate; a generator that yields after every cycle."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from saal_jax.keys import make_key
from saal_jax.pool import FIRST_LABELS, stable_ids, subset
from saal_jax.query import Pool, Query
from saal_jax.sweep import score_available, score_pool
from saal_jax.training import Task, TrainState

_START = 2**31 - 1  # folded into a seed's key for what happens before cycle 0: initialisation and first labels
EVALUATION_CHUNK = 500


class Protocol(NamedTuple):
    """The numbers of an experiment: how many labels when, and how long to train."""

    initial_labels: int
    initial_selection: str
    query_size: int
    cycles: int
    epochs: int
    batch_size: int
    pool_subset: int | None
    warm_start: bool


class CycleState(NamedTuple):
    """What continues a seed after `cycle`, beside its key: the trained state and the mask of labelled examples."""

    cycle: int
    train: TrainState
    labelled: np.ndarray


class Result(NamedTuple):
    """What one cycle found: `metrics` by name, what was labelled before it (arrays of one length, as chosen), how many
    seconds each phase took, and what the acquisition told of its query, by name.
    """

    metrics: dict
    queried: dict
    seconds: dict
    query_metrics: dict


def make_pool(split, embeddings=None) -> Pool:
    """Puts a data set's split on the device and numbers its examples."""
    return Pool(jnp.asarray(split.images), jnp.asarray(split.labels), stable_ids(split.ids), split.ids, embeddings)


def seed_key(seed: int):
    """The key that everything random of one seed is derived from."""
    return jax.random.fold_in(make_key(0), seed)


def capacity(protocol, pool) -> int:
    """How many labels a seed has in the end."""
    return min(len(pool.ids), protocol.initial_labels + protocol.cycles * protocol.query_size)


def first_labels(key, protocol, pool, num_classes):
    """The mask of the first labels, and which they are: the same for every method."""
    label_key, _ = jax.random.split(jax.random.fold_in(key, _START))
    labels, select = np.asarray(pool.labels), FIRST_LABELS[protocol.initial_selection]
    chosen = np.asarray(select(label_key, labels, pool.ids, num_classes, protocol.initial_labels).indices)
    labelled = np.zeros(len(labels), bool)
    labelled[chosen] = True
    return labelled, {"index": chosen, "example_id": pool.names[chosen], "label": labels[chosen]}


def active_learning(key, protocol, recipe, acquire, pool, test, num_classes, state=None, progress=None):
    """Yields `(CycleState, Result)` after every cycle from the first (or the one after `state`) to `protocol.cycles`.

    Cycle 0 trains on the first labels; every later cycle queries with the model of the one before, labels what was
    chosen, trains and evaluates. Ends early when nothing is left to label. A yielded state is valid until the next
    step: its arrays are then donated. `progress(phase, done, total)` is called along the way.
    """
    progress = progress or (lambda phase, done, total: None)
    _, init_key = jax.random.split(jax.random.fold_in(key, _START))
    for cycle in range(0 if state is None else state.cycle + 1, protocol.cycles + 1):
        query_key, train_key = jax.random.split(jax.random.fold_in(key, cycle))
        times = [time.perf_counter()]
        if cycle == 0:
            before, (labelled, queried), told = False, first_labels(key, protocol, pool, num_classes), {}
        elif state.labelled.all():
            return
        else:
            before = state.labelled
            labelled, queried, told = query(query_key, protocol, recipe, acquire, pool, state, progress)
        times.append(time.perf_counter())
        start = state.train if protocol.warm_start and cycle > 0 else recipe.init(init_key)
        task = make_task(protocol, pool, labelled, labelled & ~np.asarray(before), cycle)
        trained, train_loss = recipe.train(train_key, start, task, lambda done, total: progress("train", done, total))
        times.append(time.perf_counter())
        metrics = {"num_labelled": int(labelled.sum()), "train_loss": train_loss}
        metrics |= evaluate(recipe, trained.weights, test, num_classes, progress)
        times.append(time.perf_counter())
        state = CycleState(cycle, trained, labelled)
        seconds = dict(zip(("query", "train", "test"), np.diff(times).tolist(), strict=True))
        yield state, Result(metrics, queried, seconds, told)


def make_task(protocol, pool, labelled, new, cycle) -> Task:
    """What a cycle trains on."""
    return Task(
        pool, labelled, new, cycle, protocol.cycles, protocol.epochs, protocol.batch_size, capacity(protocol, pool)
    )


def query(key, protocol, recipe, acquire, pool, state, progress):
    """Chooses and labels: the new mask, what was chosen with its score and pseudo label, and what else was found."""
    subset_key, select_key = jax.random.split(key)
    available = subset(subset_key, pool.ids, ~state.labelled, protocol.pool_subset)

    def sweep(score_fn, weights, arrays, mask, **options):
        report = lambda done: progress("score", done, int(mask.sum()))  # noqa: E731
        options |= {"mesh": recipe.mesh, "progress": report}
        return score_available(score_fn, weights, arrays, mask, pool.names, **options)

    k, weights = min(protocol.query_size, len(pool.ids)), state.train.weights
    acquired = acquire(Query(select_key, pool, state.labelled, available, k, weights, sweep))
    chosen = np.asarray(acquired.selection.indices)[: int(acquired.selection.count)]
    logits = predict(recipe, weights, pool.images[chosen])
    labelled = state.labelled.copy()
    labelled[chosen] = True
    queried = {
        "index": chosen,
        "example_id": pool.names[chosen],
        "score": np.asarray(acquired.scores)[chosen],
        "pseudo_label": logits.argmax(1),
        "label": np.asarray(pool.labels)[chosen],
    }
    return labelled, queried, acquired.metrics


def predict(recipe, weights, images, progress=None, offer="apply"):
    """Logits `[N, C]` of stored images."""
    chunk_size = -(-EVALUATION_CHUNK // (recipe.mesh.size if recipe.mesh else 1))
    score_fn = recipe.offers[offer]
    return score_pool(score_fn, weights, images, chunk_size=chunk_size, mesh=recipe.mesh, progress=progress)


def evaluate(recipe, weights, test, num_classes, progress):
    """Accuracy (percent) and mean cross-entropy (nats) on the test images; accuracy by class, NaN without images.

    Where the recipe has a teacher, its accuracy as well.
    """
    total, labels = len(test.labels), np.asarray(test.labels)
    logits = predict(recipe, weights, test.images, lambda done: progress("test", done, total))
    correct = logits.argmax(1) == labels
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(total), labels]
    counts = np.bincount(labels, minlength=num_classes)
    per_class = np.where(counts > 0, np.bincount(labels, correct, num_classes) / np.maximum(counts, 1), np.nan)
    metrics = {
        "test_accuracy": 100 * float(correct.mean()),
        "test_loss": float(losses.mean()),
        "class_accuracies": (100 * per_class).tolist(),
    }
    if "teacher" in recipe.offers:
        teacher = predict(recipe, weights, test.images, offer="teacher")
        metrics["teacher_accuracy"] = 100 * float((teacher.argmax(1) == labels).mean())
    return metrics
