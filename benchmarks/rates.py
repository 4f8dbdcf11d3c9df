"""What the machine can do: multiply-add operations and bytes per second, the larger of several tries."""

import time

import jax
import jax.numpy as jnp


def rates():
    """`(FLOP/s of a float32 matrix product, bytes/s read and written by a copy)` on the default device."""
    size, length = 2048, 2**26
    matrix = jnp.ones((size, size))
    array = jnp.ones(length)
    product = jax.jit(lambda a: a @ a)
    copy = jax.jit(lambda a: a + 1)
    return 2 * size**3 / _best(product, matrix), 2 * 4 * length / _best(copy, array)


def _best(fun, argument):
    jax.block_until_ready(fun(argument))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(fun(argument))
        times.append(time.perf_counter() - start)
    return min(times)
