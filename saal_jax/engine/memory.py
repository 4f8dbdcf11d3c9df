"""How much memory a function needs for one more example, read off its equations before anything is compiled."""

import contextlib
import functools
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params

from saal_jax.typing import Key, PyTree


def machine_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_bytes() -> int:
    """The memory that is free now: of this machine and, where it reports it, of the device, whichever has less."""
    stats = jax.local_devices()[0].memory_stats() or {}
    free = [stats["bytes_limit"] - stats["bytes_in_use"]] if "bytes_limit" in stats else []
    try:
        with open("/proc/meminfo") as meminfo:
            free += [1024 * int(line.split()[1]) for line in meminfo if line.startswith("MemAvailable:")]
    except OSError:  # no Linux
        free.append(machine_bytes())
    return min(free)


def on_disk(array: Any) -> bool:
    """Whether an array lies on disk, read where it is indexed: an `np.memmap`, or what is none of JAX or numpy."""
    return isinstance(array, np.memmap) or not isinstance(array, jax.Array | np.ndarray | np.generic)


def lap() -> tuple[float, int]:
    """The time in seconds, and the most memory in bytes that was held at once since the last lap.

    On a device that reports it, that of the device since the process began; else that of this process, since it began
    where the system is no Linux.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    if peak is None:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.suppress(OSError, StopIteration):
            with open("/proc/self/status") as status:
                peak = 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # sets it back
    return time.perf_counter(), peak


def bytes_per_example(fun: Callable, params: PyTree, arrays: PyTree, size: int, *keys: Key) -> tuple[int, int]:
    """`(fixed, per example)` bytes that `fun(params, chunk, *keys)` holds at its worst, at about `size` examples.

    An estimate: XLA fuses what is counted apart here, and pads what is counted bare. Of `arrays` and `keys`, whose
    leading axis is that of the chunk, only shapes are looked at.
    """
    shapes = jax.tree.map(_shape, (params, (arrays, *keys)))
    leaves, structure = jax.tree.flatten(shapes)
    return _bytes_per_example(fun, structure, tuple(leaves), size)


@functools.lru_cache(maxsize=64)
def _bytes_per_example(fun, structure, leaves, size):
    params, arrays = jax.tree.unflatten(structure, leaves)

    def peak(size):
        chunk = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), arrays)
        closed = jax.make_jaxpr(fun)(params, *chunk)
        return sum(map(_bytes, jax.tree.leaves(chunk))) + _peak(closed.jaxpr)

    small, large = peak(size), peak(2 * size)
    per_example = max(1, -(-(large - small) // size))
    return max(0, small - size * per_example), per_example


def _peak(jaxpr):
    """Bytes alive at the worst moment, beside the inputs."""
    last_use: dict = {}
    for number, equation in enumerate(jaxpr.eqns):
        last_use.update((atom, number) for atom in _variables((*equation.outvars, *equation.invars)))
    last_use.update((atom, None) for atom in _variables(jaxpr.outvars))
    made, alive, peak = set(), 0, 0
    for number, equation in enumerate(jaxpr.eqns):
        outputs = sum(_bytes(variable.aval) for variable in equation.outvars)
        within = max(map(_peak, jaxprs_in_params(equation.params)), default=0)
        peak = max(peak, alive + max(outputs, within))
        made.update(equation.outvars)
        alive += outputs
        gone = {atom for atom in _variables((*equation.invars, *equation.outvars)) if last_use[atom] == number}
        alive -= sum(_bytes(atom.aval) for atom in gone & made)
    return peak


def _shape(leaf):
    leaf = leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True))


def _variables(atoms):
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _bytes(aval):
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 0)
