"""Reading a function as a list of equations, and running it with some of them replaced."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal

from saal_jax.typing import PyTree

_CALLS = ("jit", "pjit", "closed_call")


def trace(fun: Callable, *args: PyTree) -> tuple[Any, PyTree]:
    """`(closed jaxpr, shapes of the result)` of `fun`, with what it jits inside written out."""
    closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*args)
    if any(equation.primitive.name in _CALLS for equation in closed.jaxpr.eqns):
        closed = jax.make_jaxpr(lambda *leaves: evaluate(closed, list(leaves)))(*closed.in_avals)
    return closed, shapes


def evaluate(closed: Any, leaves: list, replace: Callable = lambda equation, inputs: None) -> list:
    """Outputs of a jaxpr; `replace(equation, inputs)` returns an equation's outputs, or None to leave it as it is."""
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(closed.jaxpr.invars, leaves, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if equation.primitive.name in _CALLS:
            called = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
            outputs = evaluate(called, inputs, replace)
        else:
            outputs = replace(equation, inputs)
        outputs = bind(equation, inputs) if outputs is None else outputs
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def rewritten(fun: Callable, replace: Callable) -> Callable:
    """`fun` with some of its equations replaced, as `evaluate` does; those inside loops, branches and functions with
    custom derivatives are left as they are.
    """

    def wrapped(*args):
        closed, shapes = trace(fun, *args)
        return jax.tree.unflatten(jax.tree.structure(shapes), evaluate(closed, jax.tree.leaves(args), replace))

    return wrapped


def bind(equation: Any, inputs: Any) -> list:
    """What the equation itself makes of `inputs`."""
    primitive = equation.primitive
    with equation.ctx.manager:
        outputs = primitive.bind(*inputs, **primitive.get_bind_params(equation.params))
    return outputs if primitive.multiple_results else [outputs]
