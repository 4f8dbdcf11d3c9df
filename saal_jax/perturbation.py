"""The adversarial step on the weights: towards the largest loss within a small ball around them."""

import jax
import jax.numpy as jnp
import optax

_GUARD = 1e-12  # the released programs' guard: at zero gradient the weights stay where they are


def ascend(params, gradients, rho, *, adaptive: bool):
    """Returns `params` moved by `rho` along the (adaptive) unit gradient; one global norm over all leaves.

    Plain (SAM, Foret et al. 2021, eq. 2): `w + rho g / (|g| + 1e-12)`.
    Adaptive (ASAM, Kwon et al. 2021, eq. 7): `w + rho w^2 g / (||w| g| + 1e-12)`.
    """
    if adaptive:
        norm = optax.tree.norm(jax.tree.map(jnp.multiply, params, gradients))
        gradients = jax.tree.map(lambda w, g: w * w * g, params, gradients)
    else:
        norm = optax.tree.norm(gradients)
    scale = rho / (norm + _GUARD)
    return jax.tree.map(lambda w, g: w + scale * g, params, gradients)
