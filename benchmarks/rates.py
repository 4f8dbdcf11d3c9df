"""What the machine can do: multiply-add operations and bytes per second, the larger of several tries."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def rates() -> tuple[float, float]:
    """`(FLOP/s of a float32 matrix product, bytes/s read and written in place)` on the default device.

    In place, as memory that a program asks for anew costs several times its traffic: that is no floor.
    """
    size, length = 2048, 2**26
    matrix = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    increment = jax.jit(lambda a: a + 1, donate_argnums=0)
    return 2 * size**3 / _best(lambda _: product(matrix)), 2 * 4 * length / _best(increment, jnp.ones(length))


def _best(fun: Callable[[Any], Any], carried: Any = None) -> float:
    carried = jax.block_until_ready(fun(carried))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        carried = jax.block_until_ready(fun(carried))
        times.append(time.perf_counter() - start)
    return min(times)
