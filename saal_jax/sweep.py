"""The whole pool, scored chunk by chunk with one compiled program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.errors import InputError

_CHUNK_BYTES = 2**30  # of per-example weights in flight, on a CPU or a device that does not tell its memory
_LARGEST_CHUNK = 1024


def score_pool(score_fn, params, pool, *, key=None, chunk_size=None, progress=None):
    """Scores every example of `pool` in chunks of one fixed size, so that a run compiles `score_fn` once.

    Args:
      score_fn: `score_fn(params, chunk) -> [B]`; with `key`, `score_fn(params, chunk, keys[B])`. Static: pass the same
        function object every time to reuse the compiled program.
      params: pytree that `score_fn` takes; traced.
      pool: an array, or a pytree of arrays, with leading axis N (host or device memory).
      key: typed key for scores that draw; example i gets `fold_in(key, i)`, whatever the chunk size.
      chunk_size: examples scored at once; `None` derives it from the bytes of `params` and of the device's memory, as a
        score may hold two copies of the weights per example (`max_perturbed_loss`: gradient and perturbed weights).
      progress: called with the number of examples done after each chunk.

    Returns:
      numpy `[N]`, in the order of the pool, in the dtype of the scores. Rounding may differ by about 5e-7 between chunk
      sizes.

    Raises:
      InputError: leaves of `pool` of different length, scores that are not one per example, `chunk_size` below 1.

    >>> import jax.numpy as jnp
    >>> score_pool(lambda scale, chunk: scale * chunk.sum(1), 2.0, jnp.ones((5, 3)), chunk_size=2)
    array([6., 6., 6., 6., 6.], dtype=float32)
    """
    sizes = {leaf.shape[0] if np.ndim(leaf) else None for leaf in jax.tree.leaves(pool)}
    if len(sizes) != 1 or None in sizes:
        raise InputError("pool must be an array, or a pytree of arrays, that all have the same leading axis N")
    (size,) = sizes
    chunk_size = min(default_chunk_size(params), max(size, 1)) if chunk_size is None else chunk_size
    return _sweep(score_fn, params, pool, np.arange(size), key, chunk_size, progress)


def score_available(score_fn, weights, pool, available, names, progress=None):
    """`score_pool` over the examples in the mask `available[N]` only: `[N]` with NaN elsewhere.

    Raises InputError, with the `names[N]` of the first few, where a score is not finite.
    """
    positions = np.flatnonzero(available)
    chunk_size = min(default_chunk_size(weights.params), len(names))
    found = _sweep(score_fn, weights, pool, positions, None, chunk_size, progress)
    wrong = positions[~np.isfinite(found)]
    if wrong.size:
        listed = ", ".join(map(str, names[wrong[:5]])) + ", ..." * (wrong.size > 5)
        raise InputError(
            f"{wrong.size} of {positions.size} scores are not finite, of examples {listed}: the weights have diverged "
            "(lower optimizer.learning_rate) or these images are extreme (leave them out)"
        )
    scores = np.full(len(names), np.nan, found.dtype)
    scores[positions] = found
    return scores


def _sweep(score_fn, params, pool, positions, key, chunk_size, progress):
    """Scores `pool` at `positions`; every chunk has the same shape, the last one repeats its last example."""
    if int(chunk_size) != chunk_size or chunk_size < 1:
        raise InputError(f"chunk_size is {chunk_size}: it must be a whole number, at least 1")
    scores = []
    for start in range(0, len(positions), chunk_size):
        rows = positions[np.minimum(np.arange(start, start + chunk_size), len(positions) - 1)]
        chunk = jax.tree.map(lambda array: array[rows], pool)  # noqa: B023
        keys = () if key is None else (jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(rows)),)
        found = _score(score_fn, params, chunk, *keys)
        if jnp.shape(found)[:1] != (chunk_size,):
            raise InputError(
                f"score_fn gave {jnp.shape(found)} for a chunk of {chunk_size}: it must return [{chunk_size}]"
            )
        scores.append(np.asarray(found)[: len(positions) - start])
        if progress:
            progress(min(start + chunk_size, len(positions)))
    return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def default_chunk_size(params) -> int:
    """Examples whose gradients and perturbed weights together fit the memory set aside for them."""
    stats = jax.local_devices()[0].memory_stats() or {}
    available = stats["bytes_limit"] // 4 if "bytes_limit" in stats else _CHUNK_BYTES
    per_example = 2 * sum(leaf.nbytes for leaf in map(jnp.asarray, jax.tree.leaves(params)))
    return int(np.clip(available // max(per_example, 1), 1, _LARGEST_CHUNK))


@functools.partial(jax.jit, static_argnums=0)
def _score(score_fn, params, chunk, *keys):
    return score_fn(params, chunk, *keys)
