"""What every acquisition must keep, whatever it computes: a new one is here at once."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.methods import listing, methods
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.engine.sweep import score_available
from saal_jax.pool import Pool, Query
from saal_jax.recipes import OFFERS
from saal_jax.spec import needs
from saal_jax.tasks.classification import classification

SIZE, CLASSES = 48, 3
QUICK = {"vaal": {"steps": 3, "width": 4, "latent": 2}}


class Toy(NamedTuple):
    """A linear network."""

    params: dict
    batch_stats: dict


def toy(classes=CLASSES, features=64):
    kernel = jax.random.normal(jax.random.key(5), (features, classes))
    return Toy({"kernel": kernel, "loss": jnp.linspace(-1, 1, features)}, {})


def _features(weights, images):
    return images.reshape(len(images), -1)[:, : len(weights.params["loss"])] / 255.0


def _apply(weights, images):
    return _features(weights, images) @ weights.params["kernel"]


def _noisy(key, logits, samples):
    return logits[None] + jax.random.normal(key, (samples, *logits.shape))


OFFERED = {
    "apply": _apply,
    "logits": _apply,
    "pixels": _apply,
    "features": _features,
    "task": classification(CLASSES),
    "normalize": lambda images: images / 255.0,
    "predicted_loss": lambda weights, images: _features(weights, images) @ weights.params["loss"],
    "sample_logits": lambda weights, images, keys, samples: jax.vmap(_noisy, (0, 0, None))(
        keys, _apply(weights, images), samples
    ),
    "teacher": lambda weights, images: 2 * _apply(weights, images),
    "students": lambda weights, images: jnp.stack([_apply(weights, images), -_apply(weights, images)], axis=1),
}


def test_the_toy_offers_everything():
    assert OFFERED.keys() == OFFERS.keys()


def make(name):
    return ACQUISITIONS[name](*(OFFERED[offer] for offer in needs(name)), **QUICK.get(name, {}))


MADE = {name: make(name) for name in ACQUISITIONS}
every_method = pytest.mark.parametrize("name", ACQUISITIONS)


def pool_of(images):
    ids = np.arange(len(images), dtype=np.uint32) * 7 + 3
    return Pool(jnp.asarray(images, jnp.uint8), ids, np.array([f"image {i}" for i in ids]))


IMAGES = np.random.default_rng(0).integers(0, 256, (SIZE, 8, 8, 1))
LABELLED = np.arange(SIZE) % 6 == 0


def ask(name, pool, *, key=0, labelled=LABELLED, available=None, k=7, weights=None, classes=None):
    classes = np.arange(len(pool.ids)) % CLASSES if classes is None else classes
    available = ~labelled if available is None else available

    def sweep(score_fn, weights, arrays, mask, **options):
        return score_available(score_fn, weights, arrays, mask, pool.names, **options)

    query = Query(jax.random.key(key), pool, labelled, available, k, weights or toy(), sweep, classes)
    acquired = MADE[name](query)
    indices, count = np.asarray(acquired.selection.indices), int(acquired.selection.count)
    assert indices.shape == (k,) and count == min(k, available.sum())
    assert (indices[count:] == -1).all()
    chosen = indices[:count]
    assert len(set(chosen.tolist())) == count
    assert available[chosen].all()
    assert np.shape(acquired.scores) == (len(pool.ids),)
    return chosen, acquired


@pytest.mark.parametrize("ks", [(7, SIZE), pytest.param((1, 2), marks=pytest.mark.slow)])
@every_method
def test_counts_exactly_whatever_is_asked(name, ks):
    pool = pool_of(IMAGES)
    for k, left in ((k, left) for k in ks for left in (40, 7, 5)):
        ask(name, pool, k=k, available=~LABELLED & (np.cumsum(~LABELLED) <= left))


@every_method
def test_a_pool_on_disk_gives_the_same_choice_and_scores(name, tmp_path):
    pool, mapped = pool_of(IMAGES), np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, IMAGES.shape)
    mapped[:] = IMAGES
    (expected, by_array), (chosen, by_map) = ask(name, pool), ask(name, pool._replace(images=mapped))
    np.testing.assert_array_equal(chosen, expected)
    np.testing.assert_array_equal(by_map.scores, by_array.scores)


@every_method
def test_sane_where_nothing_distinguishes(name):
    equal = np.full_like(IMAGES, 100)
    ask(name, pool_of(equal))
    ask(name, pool_of(np.zeros_like(IMAGES)))
    ask(name, pool_of(IMAGES[np.arange(SIZE) // 8]))  # six images, eight times each
    ask(name, pool_of(equal), k=SIZE)
    ask(name, pool_of(IMAGES), labelled=np.zeros(SIZE, bool))


@pytest.mark.slow
@every_method
def test_sane_with_one_class_or_one_feature(name):
    ask(name, pool_of(IMAGES), classes=np.zeros(SIZE, int), weights=toy(classes=1))
    ask(name, pool_of(IMAGES), weights=toy(features=1))


@every_method
def test_the_key_and_nothing_else_decides(name):
    pool = pool_of(IMAGES)
    (first, told), (again, told_again) = ask(name, pool), ask(name, pool)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(told.scores, told_again.scores)
    assert str(told.metrics) == str(told_again.metrics)


@every_method
def test_the_order_of_the_pool_does_not_matter(name):
    pool, order = pool_of(IMAGES), np.random.default_rng(1).permutation(SIZE)
    moved = Pool(pool.images[order], pool.ids[order], pool.names[order])
    chosen, _ = ask(name, pool)
    other, _ = ask(name, moved, labelled=LABELLED[order], classes=(np.arange(SIZE) % CLASSES)[order])
    assert pool.ids[chosen].tolist() == moved.ids[other].tolist()


@every_method
def test_nothing_is_compiled_anew_in_a_later_cycle(name):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    pool, labelled = pool_of(IMAGES), LABELLED.copy()
    for cycle in range(2):
        labelled[ask(name, pool, key=cycle, labelled=labelled)[0]] = True
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        ask(name, pool, key=2, labelled=labelled)
        assert not compiled
        jax.jit(lambda x: x + len(name))(1.0)
        assert compiled, "no compilation was seen: has the event another name?"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_every_method_says_what_it_is_and_what_it_costs():
    for method in methods():
        assert method.title and method.picks and method.scales, method.name
        assert "forward pass" in method.cost, method.name
        assert set(method.needs) <= OFFERS.keys(), method.name
        assert f"\n{method.name}\n" in "\n" + listing()


MEMORY = """
import resource, sys
sys.path[:0] = [{folder!r}]
import numpy as np, test_contract as t
name, size = {name!r}, 100_000
if name == "sslpm":  # its memory grows with the square of this, as it says
    t.MADE[name] = t.ACQUISITIONS[name](*(t.OFFERED[offer] for offer in t.needs(name)), candidates=5000)
images = np.random.default_rng(0).integers(0, 256, (size, 8, 8, 1), np.uint8)
pool = t.pool_of(images)
t.ask("random", pool, labelled=np.arange(size) % 1000 == 0, k=100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
t.ask(name, pool, labelled=np.arange(size) % 1000 == 0, k=100)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@every_method
def test_a_hundred_thousand_examples_take_less_than_a_gibibyte(name):
    program = MEMORY.format(folder=str(__import__("pathlib").Path(__file__).parent), name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(name, done.stdout.strip(), "MiB")
    assert int(done.stdout) < 1024
