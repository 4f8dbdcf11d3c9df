"""A pool larger than one would hold in memory: constant memory, the same scores, and cost in proportion."""

import subprocess
import sys

import pytest

# In a process of its own, so that its memory is the sweep's. The first sweep compiles and sets the base line.
STREAM = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from saal_jax import max_perturbed_loss, score_pool
from saal_jax.models import small_cnn

path, size = sys.argv[1], int(sys.argv[2])
pool = np.lib.format.open_memmap(path, "w+", np.uint8, (size, 32, 32, 3))
draw = np.random.default_rng(0)
for start in range(0, size, 10_000):
    pool[start : start + 10_000] = draw.integers(0, 256, (min(10_000, size - start), 32, 32, 3), np.uint8)
pool.flush()
del pool
pool = np.load(path, mmap_mode="r")
if sys.argv[4] == "small_cnn":
    model = small_cnn(10, width=4)
    weights = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    apply_fn, params = lambda p, x: model.apply(weights._replace(params=p), x), weights.params
else:
    apply_fn, params = lambda p, x: x.reshape(len(x), -1) @ p, jax.random.normal(jax.random.key(0), (3072, 2))

def score_fn(params, images):
    return max_perturbed_loss(apply_fn, params, images.astype(jnp.float32) / 255 - 0.5)

def anonymous():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon"))

slice_size = min(50_000, size // 10)
in_memory = score_pool(score_fn, params, np.array(pool[:slice_size]))
before, most = anonymous(), 0

def watch(done):
    global most
    most = max(most, anonymous())

for count in [10**k for k in range(4, 9) if 10**k < size] + [size]:
    start = time.perf_counter()
    scores = score_pool(score_fn, params, pool[:count], progress=watch)
    seconds = time.perf_counter() - start
    print(f"{count:>9,} images: {seconds:7.1f} s, {1e6 * seconds / count:5.0f} us each", file=sys.stderr)
np.testing.assert_array_equal(scores[:slice_size], in_memory)
print(f"anonymous memory grew by {(most - before) / 2**20:.0f} MiB", file=sys.stderr)
assert most - before < float(sys.argv[3]), (most, before)
"""


def stream(path, size, limit, model):
    arguments = map(str, (path, size, limit, model))
    subprocess.run([sys.executable, "-c", STREAM, *arguments], check=True)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pool(tmp_path):
    stream(tmp_path / "pool.npy", 100_000, 150e6, "linear")  # the pool is 307 MB


@pytest.mark.slow
def test_a_million_images(tmp_path):
    stream(tmp_path / "pool.npy", 1_000_000, 2**30, "small_cnn")
