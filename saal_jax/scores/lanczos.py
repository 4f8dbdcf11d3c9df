"""The largest eigenvalue of a symmetric operator of which only products with vectors are known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def largest_eigenvalue(product_fn: Callable, start: jax.Array, iterations: int) -> jax.Array:
    """The algebraically largest eigenvalue (not the largest in magnitude), from below, by Lanczos iterations.

    `iterations` products span the Krylov space of `start[P]` (not zero); returned is the largest eigenvalue of the
    tridiagonal matrix that the operator is there (Golub and Van Loan, Matrix Computations, algorithm 10.1.1). Only
    three vectors are held, as the basis is not reorthogonalised: rounding then repeats eigenvalues that have converged,
    but moves none out of the operator's range by more than rounding (Paige 1980).

    >>> import jax.numpy as jnp
    >>> print(largest_eigenvalue(lambda vector: jnp.array([-5.0, 1.0, 2.0]) * vector, jnp.ones(3), iterations=3))
    2.0
    """

    def step(carry, _):
        before, vector, beta = carry
        image = product_fn(vector) - beta * before
        alpha = jnp.vdot(vector, image)
        image = image - alpha * vector
        beta_after = jnp.linalg.norm(image)
        after = image / jnp.where(beta_after > 0, beta_after, 1)
        return (vector, after, beta_after), (alpha, beta_after, beta > 0)

    vector = start / jnp.linalg.norm(start)
    first = jnp.zeros_like(start), vector, jnp.ones((), start.dtype)
    _, (diagonal, beside, alive) = jax.lax.scan(step, first, length=iterations)
    # Where the space is exhausted, what follows is zero: no eigenvalue. The first entry never exceeds the largest one.
    diagonal = jnp.where(alive, diagonal, diagonal[0])
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))[-1]
