"""Runs an experiment cycle by cycle: `python jax_cycle_worker.py DATA_DIR CONFIG --config.KEY=VALUE...`."""

import sys

import jax
import numpy as np
from serve import serve, timed

from experiments.schema import load, override
from experiments.setup import build
from saal_jax.engine.cpu import keep_memory
from saal_jax.engine.sweep import score_available
from saal_jax.loop import answers_for, seed_key, simulate
from saal_jax.pool import Query

COMPARED = 64  # images at the front of the pool
compiled: list[float] = []  # seconds of each program


def listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(listen)
keep_memory()
data_dir, name, *changes = sys.argv[1:]
config = override(load(name), changes)
setup = build(config, data_dir or None)
problem = setup.problem
pool, key = problem.pool, seed_key(config.seeds[0])
cycles = simulate(key, problem, setup.first(config.seeds[0]), setup.oracle)


def turn() -> dict:
    cycle, seconds = timed(lambda: next(cycles))
    accuracy = cycle.metrics["test_accuracy"]
    return {**cycle.seconds, "seconds": seconds, "test_accuracy": accuracy, "compilations": len(compiled)}


_, seconds = timed(lambda: (turn(), turn()))
first, weights = np.arange(len(pool.ids)) < COMPARED, problem.recipe.init(jax.random.key(0)).weights


def sweep(score_fn, weights, arrays, available, **options):
    return score_available(score_fn, weights, arrays, available, pool.names, **options)


query = Query(key, pool, ~first, first, problem.protocol.query_size, weights, sweep, setup.answers)
scores = problem.acquire(query, **answers_for(problem.acquire, setup.oracle)).scores
assert compiled, "no compilation was seen: has the event another name?"
compiled.clear()
serve(turn, seconds, scores[first].tolist())
