"""Distances between all examples, in bounded memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from saal_jax.typing import Array, PyTree

_HELD = 2**24  # distances that are held at a time


def squared_to(embeddings: Array, row: Array) -> jax.Array:
    """Squared distances `[N]` of all `embeddings[N, D]` to one of them: of equals exactly 0."""
    squared = jnp.square(embeddings - embeddings[row][None]).sum(1)
    return jax.lax.optimization_barrier(squared)  # fused with what follows, the sums are 8 times slower on a CPU


def nearest_of(embeddings: Array, mask: Array) -> jax.Array:
    """Which example of `mask[N]` is nearest to each one of `embeddings[N, D]`, block by block; 0 of an empty mask."""

    def visit(state, rows, valid, squared):
        nearest, smallest = state
        squared = jnp.where(valid[:, None], squared, jnp.inf)
        closer = squared.min(0) < smallest
        return jnp.where(closer, rows[squared.argmin(0)], nearest), jnp.where(closer, squared.min(0), smallest)

    size = len(embeddings)
    start = (jnp.zeros(size, jnp.int32), jnp.full(size, jnp.inf, embeddings.dtype))
    return over_blocks(embeddings, mask, visit, start)[0]


def over_blocks(embeddings: Array, mask: Array, visit: Callable, state: PyTree) -> PyTree:
    """Folds `state = visit(state, rows[B], valid[B], squared[B, N])` over the examples of `mask[N]`, B at a time.

    `squared` are the squared distances of these rows to all examples, up to some eps of the squared norms. The number
    of blocks depends on the mask, their shape on N alone, so that nothing is compiled again where the mask grows.
    """
    size = len(embeddings)
    block = min(size, max(16, _HELD // max(size, 1)))
    order, count = jnp.flatnonzero(mask, size=size, fill_value=0).astype(jnp.int32), mask.sum()
    norms = jnp.square(embeddings).sum(1)

    def step(carry):
        begin, state = carry
        positions = begin + jnp.arange(block)
        rows = order[jnp.minimum(positions, size - 1)]
        products = jnp.matmul(embeddings[rows], embeddings.T, precision="highest")
        squared = jnp.maximum(norms[rows][:, None] + norms[None] - 2 * products, 0)
        return begin + block, visit(state, rows, positions < count, squared)

    return jax.lax.while_loop(lambda carry: carry[0] < count, step, (0, state))[1]
