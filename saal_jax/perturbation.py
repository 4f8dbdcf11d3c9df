"""The adversarial step on the weights: towards the largest loss within a small ball around them."""

import functools

import jax
import jax.numpy as jnp
import optax

from saal_jax.typing import PyTree

_GUARD = 1e-12  # the released programs' guard: at zero gradient the weights stay where they are


def ascend(params: PyTree, gradients: PyTree, rho: float | jax.Array, *, adaptive: bool) -> PyTree:
    """Returns `params` moved by `rho` along the (adaptive) unit gradient; one global norm over all leaves.

    Plain (SAM, Foret et al. 2021, eq. 2): `w + rho g / (|g| + 1e-12)`.
    Adaptive (ASAM, Kwon et al. 2021, eq. 7): `w + rho w^2 g / (||w| g| + 1e-12)`.
    """
    # In float32 at least, where the guard is not zero; the weights keep their own types.
    wide = functools.partial(jax.tree.map, lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)))
    weights, gradients = wide(params), wide(gradients)
    if adaptive:
        norm = optax.tree.norm(jax.tree.map(jnp.multiply, weights, gradients))
        gradients = jax.tree.map(lambda w, g: w * w * g, weights, gradients)
    else:
        norm = optax.tree.norm(gradients)
    scale = jnp.asarray(rho, norm.dtype) / (norm + _GUARD)
    return jax.tree.map(lambda p, w, g: (w + scale * g).astype(p.dtype), params, weights, gradients)
