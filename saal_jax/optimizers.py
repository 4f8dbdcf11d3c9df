"""How weights move: a way to take the gradient, and an optax transformation of it."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import optax
from annotated_types import Ge, Gt, Lt

from saal_jax.perturbation import ascend

Positive = Annotated[float, Gt(0)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Rho = Annotated[float, Ge(0)]


class Optimizer(NamedTuple):
    """`value_and_grad(fun)` transforms `fun(params, batch_stats) -> (loss, batch_stats)` into
    `(params, batch_stats) -> ((loss, batch_stats), gradients)`; `transformation` turns gradients into updates.
    """

    value_and_grad: Callable
    transformation: optax.GradientTransformation


def adam(*, learning_rate: Positive = 1e-3) -> Optimizer:
    """Adam (Kingma and Ba 2015) with optax's, which are PyTorch's, other defaults."""
    return Optimizer(_value_and_grad, optax.adam(learning_rate))


def sgd(*, learning_rate: Positive = 1e-3, momentum: Momentum = 0.9) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return Optimizer(_value_and_grad, optax.sgd(learning_rate, momentum))


def sam(*, learning_rate: Positive = 1e-3, momentum: Momentum = 0.9, rho: Rho = 0.05) -> Optimizer:
    """Sharpness-aware minimisation (Foret et al. 2021) over SGD with momentum."""
    return Optimizer(_perturbed(rho, adaptive=False), optax.sgd(learning_rate, momentum))


def adaptive_sam(*, learning_rate: Positive = 1e-3, momentum: Momentum = 0.9, rho: Rho = 0.05) -> Optimizer:
    """Adaptive sharpness-aware minimisation (ASAM, Kwon et al. 2021) over SGD with momentum."""
    return Optimizer(_perturbed(rho, adaptive=True), optax.sgd(learning_rate, momentum))


OPTIMIZERS = {function.__name__: function for function in (adam, sgd, sam, adaptive_sam)}


def _value_and_grad(fun):
    return jax.value_and_grad(fun, has_aux=True)


def _perturbed(rho, *, adaptive):
    """The gradient at the ascended weights; both passes are in training mode and update the running statistics."""

    def value_and_grad(fun):
        gradient = jax.value_and_grad(fun, has_aux=True)

        def wrapped(params, batch_stats):
            (_, batch_stats), gradients = gradient(params, batch_stats)
            return gradient(ascend(params, gradients, rho, adaptive=adaptive), batch_stats)

        return wrapped

    return value_and_grad
