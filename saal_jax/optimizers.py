"""How weights move: a way to take the gradient, an optax transformation of it, and a schedule of the learning rate."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import optax
from annotated_types import Ge, Gt, Lt

from saal_jax.perturbation import ascend

Positive = Annotated[float, Gt(0)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Decay = Annotated[float, Ge(0)]
Rho = Annotated[float, Ge(0)]

_ONE_CYCLE = optax.cosine_onecycle_schedule(10_000, 1.0)  # up from 1/25 for 30 % of the training, then down

# The share of the learning rate that is left when a share of the training is done.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "step": lambda done: 0.1 if done >= 0.8 else 1.0,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "one_cycle": lambda done: float(_ONE_CYCLE(done * 10_000)),
}
Schedule = Literal["constant", "step", "cosine", "one_cycle"]  # as above


class Optimizer(NamedTuple):
    """`value_and_grad(fun)` transforms `fun(params, batch_stats) -> (loss, batch_stats)` into
    `(params, batch_stats) -> ((loss, batch_stats), gradients)`; `transformation` turns gradients into updates, of which
    `schedule(share of the epochs done)` says how much is taken.
    """

    value_and_grad: Callable
    transformation: optax.GradientTransformation
    schedule: Callable = SCHEDULES["constant"]


def adam(*, learning_rate: Positive = 1e-3, schedule: Schedule = "constant") -> Optimizer:
    """Adam (Kingma and Ba 2015) with optax's, which are PyTorch's, other defaults."""
    return Optimizer(_value_and_grad, optax.adam(learning_rate), SCHEDULES[schedule])


def adamw(*, learning_rate: Positive = 1e-3, weight_decay: Decay = 0.01, schedule: Schedule = "constant") -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), on all weights; PyTorch's defaults."""
    return Optimizer(_value_and_grad, optax.adamw(learning_rate, weight_decay=weight_decay), SCHEDULES[schedule])


def sgd(
    *,
    learning_rate: Positive = 1e-3,
    momentum: Momentum = 0.9,
    weight_decay: Decay = 0.0,
    schedule: Schedule = "constant",
) -> Optimizer:
    """Stochastic gradient descent with momentum, and with weight decay on all weights as PyTorch has it.

    `schedule`: `step` divides the rate by 10 after four fifths of the epochs, `cosine` anneals it to zero, `one_cycle`
    (Smith and Topin 2019) warms it up over three tenths of them before.
    """
    return Optimizer(_value_and_grad, _decayed(weight_decay, learning_rate, momentum), SCHEDULES[schedule])


def sam(
    *,
    learning_rate: Positive = 1e-3,
    momentum: Momentum = 0.9,
    rho: Rho = 0.05,
    weight_decay: Decay = 0.0,
    schedule: Schedule = "constant",
) -> Optimizer:
    """Sharpness-aware minimisation (Foret et al. 2021) over `sgd`."""
    transformation = _decayed(weight_decay, learning_rate, momentum)
    return Optimizer(_perturbed(rho, adaptive=False), transformation, SCHEDULES[schedule])


def adaptive_sam(
    *,
    learning_rate: Positive = 1e-3,
    momentum: Momentum = 0.9,
    rho: Rho = 0.05,
    weight_decay: Decay = 0.0,
    schedule: Schedule = "constant",
) -> Optimizer:
    """Adaptive sharpness-aware minimisation (ASAM, Kwon et al. 2021) over `sgd`."""
    transformation = _decayed(weight_decay, learning_rate, momentum)
    return Optimizer(_perturbed(rho, adaptive=True), transformation, SCHEDULES[schedule])


OPTIMIZERS = {function.__name__: function for function in (adam, adamw, sgd, sam, adaptive_sam)}


def _decayed(weight_decay, learning_rate, momentum):
    """PyTorch's order: the decay joins the gradient before the momentum does."""
    descent = optax.sgd(learning_rate, momentum)
    return optax.chain(optax.add_decayed_weights(weight_decay), descent) if weight_decay else descent


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
