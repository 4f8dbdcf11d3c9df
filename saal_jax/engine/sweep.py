"""The whole pool, scored chunk by chunk with one compiled program, on one device or on many."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saal_jax.deprecation import renamed
from saal_jax.engine.convolution import as_matrix_products
from saal_jax.engine.memory import bytes_per_example
from saal_jax.errors import InputError
from saal_jax.keys import as_threefry, named, of_each
from saal_jax.typing import Array, Key, PyTree, ScoreFn

_CHUNK_BYTES = 2**28  # what a chunk may take on a CPU, or on a device that does not report its memory
_LARGEST_CHUNK = 1024

# Of matrix products and convolutions of float32 numbers, on devices that have others than float32.
PRECISIONS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


@renamed(pool="arrays")
def score_pool(
    score_fn: ScoreFn,
    params: PyTree,
    arrays: PyTree,
    *,
    key: Key | None = None,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    precision: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> PyTree:
    """Scores every example of `arrays` in chunks of one fixed size, so that a run compiles `score_fn` once.

    Convolutions that `vmap` has given weights of their own for each example are computed as matrix products (see
    `as_matrix_products`), whatever the network. While one chunk is computed, the next is read.

    Args:
      score_fn: `score_fn(params, chunk) -> [B, ...]`, one array or a pytree of arrays; with `key`,
        `score_fn(params, chunk, keys[B])`. Static: pass the same function object every time to reuse the compiled
        program.
      params: pytree that `score_fn` takes; traced.
      arrays: an array, or a pytree of arrays, with leading axis N, in memory, on a device, or on disk (`np.memmap`,
        `saal_jax.data.records.Records`): anything with `shape`, `dtype` and `array[positions]`. Only chunks are read.
      key: typed key for scores that draw; the draws of an example depend on its position, whatever the chunk size.
      chunk_size: examples that a device scores at once; `None` derives it from the memory of the device and what
        `score_fn`, traced for 1,024 and 2,048 examples, takes for one. Halved, with a warning, as often as a device
        runs out of memory.
      mesh: `jax.sharding.Mesh` over whose devices every chunk is spread. If it spans processes, each reads and scores
        its own contiguous share of the examples, and all get all scores.
      precision: of matrix products: `"float32"`, or `"tf32"` or `"bfloat16"` on devices that are faster with them
        (`python -m benchmarks.ranking` prints what that does to the ranking).
      progress: called with the number of examples done (of this process) after each chunk.

    Returns:
      numpy `[N, ...]`, in their order, in the dtype of the scores; a pytree of such where `score_fn` returns
      one. Rounding may differ by about 5e-7 between chunk sizes and numbers of devices.

    Raises:
      InputError: leaves of `arrays` of different length, scores that are not arrays with a row per example,
        `chunk_size` below 1, an unknown `precision`.

    >>> import jax.numpy as jnp
    >>> score_pool(lambda scale, chunk: scale * chunk.sum(1), 2.0, jnp.ones((5, 3)), chunk_size=2)
    array([6., 6., 6., 6., 6.], dtype=float32)
    >>> score_pool(lambda scale, chunk: {"sum": chunk.sum(1), "first": chunk[:, 0]}, 2.0, jnp.ones((2, 3)))
    {'first': array([1., 1.], dtype=float32), 'sum': array([3., 3.], dtype=float32)}
    """
    sizes: set[Any] = {leaf.shape[0] if getattr(leaf, "shape", ()) else None for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or None in sizes:
        raise InputError("arrays must be an array, or a pytree of arrays, that all have the same leading axis N")
    (size,) = sizes
    return _sweep(score_fn, params, arrays, np.arange(size), size, key, chunk_size, mesh, precision, progress)


def score_available(
    score_fn: ScoreFn,
    weights: PyTree,
    arrays: PyTree,
    available: np.ndarray,
    names: Array,
    *,
    most: int | None = None,
    mesh: Mesh | None = None,
    precision: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> PyTree:
    """`score_pool` over the examples in the mask `available[N]` only: `[N, ...]` with NaN elsewhere.

    A mask `[N * R]` is of R regions of each example, those of an example side by side. Then the examples are swept that
    have an available region, `score_fn` returns `[B, R]`, and the result is `[N * R]`, with NaN where not available.

    `most` is how many the mask holds at most in a run, if fewer than all: chunks of one size are made for so many.
    Raises InputError, with the `names[N]` of the first few, where a score is not finite.
    """
    regions = len(available) // len(names) if len(names) else 1
    positions = np.flatnonzero(np.reshape(available, (-1, regions)).any(axis=1))
    size = min(most, len(names)) if most else len(names)
    scores = _sweep(score_fn, weights, arrays, positions, size, None, None, mesh, precision, progress)
    if regions > 1:
        if getattr(scores, "shape", None) != (len(positions), regions):
            shapes = jax.tree.map(lambda leaf: f"[B{''.join(f', {length}' for length in leaf.shape[1:])}]", scores)
            raise InputError(
                f"{regions} regions of an image are bought apart: a score must be [B, {regions}], not {shapes}"
            )
        positions = (positions[:, None] * regions + np.arange(regions)).ravel()
        kept = available[positions]
        scores, positions = scores.ravel()[kept], positions[kept]
    finite = [np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(scores)]
    wrong = positions[~np.all(finite, axis=0)]
    if wrong.size:
        first = [f"{names[at // regions]}{f'#{at % regions}' * (regions > 1)}" for at in wrong[:5]]
        listed = ", ".join(first) + ", ..." * (wrong.size > 5)
        raise InputError(
            f"{wrong.size} of {positions.size} scores are not finite, of examples {listed}: the weights have diverged "
            "(lower the learning rate) or these images are extreme (leave them out)"
        )
    if len(positions) == len(available):
        return scores

    def spread(rows):
        spread_out = np.full((len(available), *rows.shape[1:]), np.nan, rows.dtype)
        spread_out[positions] = rows
        return spread_out

    return jax.tree.map(spread, scores)


def default_chunk_size(score_fn: ScoreFn, params: PyTree, arrays: PyTree, *key: Key) -> int:
    """Examples that a device scores at once in the memory set aside for them."""
    stats = jax.local_devices()[0].memory_stats() or {}
    available = stats["bytes_limit"] // 4 if "bytes_limit" in stats else _CHUNK_BYTES
    fixed, per_example = bytes_per_example(score_fn, params, arrays, _LARGEST_CHUNK, *key)
    return int(np.clip((available - fixed) // per_example, 1, _LARGEST_CHUNK))


def equal_chunk_size(
    score_fn: ScoreFn, params: PyTree, arrays: PyTree, size: int, mesh: Mesh | None = None, *key: Key
) -> int:
    """Examples that each device scores at once so that `size` fill chunks of equal size: the last one is padded."""
    largest = default_chunk_size(score_fn, params, arrays, *key)
    share = max(1, -(-size // (mesh.size if mesh else 1)))
    return -(-share // -(-share // largest))


def _sweep(score_fn, params, arrays, positions, size, key, chunk_size, mesh, precision, progress):
    """Scores `arrays` at `positions`; `size` bounds their number over a run, and with it the shape of a chunk."""
    key = None if key is None else as_threefry(key)
    if chunk_size is None:
        keys = () if key is None else (jax.random.split(key, 2),)
        chunk_size = equal_chunk_size(score_fn, params, arrays, size, mesh, *keys)
    if not isinstance(chunk_size, int | np.integer) or chunk_size < 1:
        raise InputError(f"chunk_size is {chunk_size}: it must be a whole number, at least 1")
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}: it must be one of {', '.join(PRECISIONS)}")
    if not len(positions):
        one = jax.tree.map(lambda array: np.zeros((1, *array.shape[1:]), array.dtype), arrays)
        shapes = jax.eval_shape(score_fn, params, one, *(() if key is None else (jax.random.split(key, 1),)))
        return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), shapes)
    count, processes = len(positions), len({device.process_index for device in mesh.devices.flat}) if mesh else 1
    if processes > 1:
        mesh, share = mesh.local_mesh, -(-count // processes)
        own = np.arange(jax.process_index() * share, (jax.process_index() + 1) * share)
        positions = positions[np.minimum(own, count - 1)]
    if mesh:
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    scores, done = None, 0
    while done < len(positions):
        try:
            with jax.default_matmul_precision(PRECISIONS[precision]):
                for chunk_scores in _chunks(score_fn, params, arrays, positions[done:], key, int(chunk_size), mesh):
                    if scores is None:  # of embeddings, a list of chunks would be there twice when it is joined
                        scores = jax.tree.map(functools.partial(_room, len(positions)), chunk_scores)
                    for whole, part in zip(jax.tree.leaves(scores), jax.tree.leaves(chunk_scores), strict=True):
                        whole[done : done + len(part)] = part
                    done += len(part)
                    if progress:
                        progress(done)
        except jax.errors.JaxRuntimeError as error:
            if chunk_size == 1 or not any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory")):
                raise
            chunk_size = -(-chunk_size // 2)
            # The caller of `score_pool`, which is behind `renamed`.
            warnings.warn(f"out of memory; going on with chunks of {chunk_size} examples", stacklevel=4)
    if processes > 1:
        gathered = multihost_utils.process_allgather(scores)
        scores = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], gathered)
    return scores


def _room(size, scores):
    return np.empty((size, *scores.shape[1:]), scores.dtype)


def _chunks(score_fn, params, arrays, positions, key, chunk_size, mesh):
    """Yields the scores of one chunk after the other; all have one shape, the last repeats its last example.

    A chunk is dispatched before the one before it is waited for: reading the next and computing go on together.
    """
    chunk_size *= mesh.size if mesh else 1
    before = None
    for start in range(0, len(positions), chunk_size):
        rows = positions[np.minimum(np.arange(start, start + chunk_size), len(positions) - 1)]
        chunk = jax.tree.map(lambda array: array[rows], arrays)  # noqa: B023
        keys = () if key is None else (of_each(named(key, "example"), jnp.asarray(rows)),)
        if mesh:
            chunk, keys = jax.device_put((chunk, keys), NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
        scores = _score(score_fn, mesh, params, chunk, *keys)
        if before is not None:
            yield jax.tree.map(np.asarray, before)
        before = scores
    yield jax.tree.map(lambda leaf: np.asarray(leaf)[: len(positions) - start], before)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score(score_fn, mesh, params, chunk, *keys):
    def one_row_for_each(params, chunk, *keys):
        scores = score_fn(params, chunk, *keys)
        size = jax.tree.leaves(chunk)[0].shape[0]
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(scores)]
        if not shapes or any(shape[:1] != (size,) for shape in shapes):
            returned = jax.tree.map(jnp.shape, scores)
            raise InputError(
                f"score_fn returned {returned} for a chunk of {size}: it must return an array [{size}, ...], or a "
                "pytree of them"
            )
        return scores

    score = as_matrix_products(one_row_for_each, shared=False)
    if mesh is not None:
        spread = PartitionSpec(mesh.axis_names)
        specs = (PartitionSpec(), spread, *(spread for _ in keys))
        score = jax.shard_map(score, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)
    return score(params, chunk, *keys)
