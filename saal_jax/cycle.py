"""The active-learning loop: query, label, train, evaluate; a generator that yields after every cycle."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from saal_jax.pool import class_balanced, stable_ids, subset
from saal_jax.sweep import score_available, score_pool
from saal_jax.training import TrainState, train

_START = 2**31 - 1  # folded into a seed's key for what happens before cycle 0: initialisation and first labels
EVALUATION_CHUNK = 500


class Pool(NamedTuple):
    """`images[N, H, W, C]` uint8 and `labels[N]` on the device; `ids[N]` uint32 and `names[N]` of the examples."""

    images: jax.Array
    labels: jax.Array
    ids: np.ndarray
    names: np.ndarray


class Protocol(NamedTuple):
    """The numbers of an experiment: how many labels when, and how long to train."""

    initial_labels: int
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
    """What one cycle found: `metrics` by name, and what was labelled before it (arrays of one length, as chosen),
    and how many seconds each phase took.
    """

    metrics: dict
    queried: dict
    seconds: dict


def make_pool(split) -> Pool:
    """Puts a data set's split on the device and numbers its examples."""
    return Pool(jnp.asarray(split.images), jnp.asarray(split.labels), stable_ids(split.ids), split.ids)


def seed_key(seed: int):
    """The key that everything random of one seed is derived from."""
    return jax.random.fold_in(jax.random.key(0), seed)


def capacity(protocol, pool) -> int:
    """How many labels a seed has in the end."""
    return min(len(pool.ids), protocol.initial_labels + protocol.cycles * protocol.query_size)


def first_labels(key, protocol, pool, num_classes):
    """The mask of the first, class-balanced labels, and which they are: the same for every method."""
    label_key, _ = jax.random.split(jax.random.fold_in(key, _START))
    labels = np.asarray(pool.labels)
    chosen = np.asarray(class_balanced(label_key, labels, pool.ids, num_classes, protocol.initial_labels).indices)
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
            labelled, queried = first_labels(key, protocol, pool, num_classes)
        elif state.labelled.all():
            return
        else:
            labelled, queried = query(query_key, protocol, recipe, acquire, pool, state, progress)
        times.append(time.perf_counter())
        start = state.train if protocol.warm_start and cycle > 0 else recipe.init(init_key)
        trained, train_loss = train(
            recipe.epoch,
            start,
            pool.images,
            pool.labels,
            pool.ids,
            labelled,
            train_key,
            epochs=protocol.epochs,
            batch_size=protocol.batch_size,
            capacity=capacity(protocol, pool),
            mesh=recipe.mesh,
            progress=lambda done: progress("train", done, protocol.epochs),
        )
        times.append(time.perf_counter())
        metrics = {"num_labelled": int(labelled.sum()), "train_loss": train_loss}
        metrics |= evaluate(recipe, trained.weights, test, num_classes, progress)
        times.append(time.perf_counter())
        state = CycleState(cycle, trained, labelled)
        seconds = dict(zip(("query", "train", "test"), np.diff(times).tolist(), strict=True))
        yield state, Result(metrics, queried, seconds)


def query(key, protocol, recipe, acquire, pool, state, progress):
    """Chooses and labels: returns the new mask and what was chosen, with its score and pseudo label."""
    subset_key, select_key = jax.random.split(key)
    available = subset(subset_key, pool.ids, ~state.labelled, protocol.pool_subset)

    def sweep(score_fn, weights, arrays, available, **options):
        report = lambda done: progress("score", done, int(available.sum()))  # noqa: E731
        options |= {"mesh": recipe.mesh, "progress": report}
        return score_available(score_fn, weights, arrays, available, pool.names, **options)

    selection, scores = acquire(
        select_key,
        pool,
        available,
        min(protocol.query_size, len(pool.ids)),
        state.train.weights,
        sweep,
    )
    chosen = np.asarray(selection.indices)[: int(selection.count)]
    logits = predict(recipe, state.train.weights, pool.images[chosen])
    labelled = state.labelled.copy()
    labelled[chosen] = True
    queried = {
        "index": chosen,
        "example_id": pool.names[chosen],
        "score": np.asarray(scores)[chosen],
        "pseudo_label": logits.argmax(1),
        "label": np.asarray(pool.labels)[chosen],
    }
    return labelled, queried


def predict(recipe, weights, images, progress=None):
    """Logits `[N, C]` of stored images."""
    chunk_size = -(-EVALUATION_CHUNK // (recipe.mesh.size if recipe.mesh else 1))
    return score_pool(recipe.apply, weights, images, chunk_size=chunk_size, mesh=recipe.mesh, progress=progress)


def evaluate(recipe, weights, test, num_classes, progress):
    """Accuracy (percent) and mean cross-entropy (nats) on the test images; accuracy by class, NaN without images."""
    total = len(test.labels)
    logits = predict(recipe, weights, test.images, lambda done: progress("test", done, total))
    labels = np.asarray(test.labels)
    correct = logits.argmax(1) == labels
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(total), labels]
    counts = np.bincount(labels, minlength=num_classes)
    per_class = np.where(counts > 0, np.bincount(labels, correct, num_classes) / np.maximum(counts, 1), np.nan)
    return {
        "test_accuracy": 100 * float(correct.mean()),
        "test_loss": float(losses.mean()),
        "class_accuracies": (100 * per_class).tolist(),
    }
