"""Runs an experiment cycle by cycle: `python jax_cycle_worker.py DATA_DIR CONFIG --config.KEY=VALUE...`."""

import sys

import jax
import numpy as np
from serve import serve, timed

from experiments.config import load, override
from experiments.setup import build
from saal_jax.cpu import keep_memory
from saal_jax.cycle import active_learning, seed_key
from saal_jax.query import Query
from saal_jax.sweep import score_available

COMPARED = 64  # images at the front of the pool
compiled = []


def listen(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(seconds)


jax.monitoring.register_event_duration_secs_listener(listen)
keep_memory()
data_dir, name, *changes = sys.argv[1:]
config = override(load(name), changes)
setup = build(config, data_dir or None)
protocol, recipe, acquire, pool, test = setup[:5]
key = seed_key(config.seeds[0])
cycles = active_learning(key, protocol, recipe, acquire, pool, test, len(setup.class_names))


def turn():
    (_, result), seconds = timed(lambda: next(cycles))
    accuracy = result.metrics["test_accuracy"]
    return {**result.seconds, "seconds": seconds, "test_accuracy": accuracy, "compilations": len(compiled)}


_, seconds = timed(lambda: (turn(), turn()))
first, weights = np.arange(len(pool.ids)) < COMPARED, recipe.init(jax.random.key(0)).weights


def sweep(score_fn, weights, arrays, available, **options):
    return score_available(score_fn, weights, arrays, available, pool.names, **options)


scores = acquire(Query(key, pool, ~first, first, protocol.query_size, weights, sweep)).scores
assert compiled, "no compilation was seen: has the event another name?"
compiled.clear()
serve(turn, seconds, scores[first].tolist())
