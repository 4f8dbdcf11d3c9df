"""Training on several devices, of this process or of many: what is the same on all of them, and what is split.

An array that spans processes takes part only in programs that all of them run. Such arrays live inside a training;
state, pool and scores are each process's own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saal_jax.engine.memory import on_disk
from saal_jax.typing import Array, PyTree

_AXIS = "data"


def all_devices() -> Mesh | None:
    """A mesh, with one axis, of the devices of all processes; None where there is but one."""
    return Mesh(jax.devices(), (_AXIS,)) if jax.device_count() > 1 else None


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding of arrays that every device holds whole; None without a mesh."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def on_device(array: Any) -> Any:
    """The array on this process's default device; one on disk as it is."""
    return array if on_disk(array) else jnp.asarray(array)


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """`tree` on every device of the mesh; each process gives its own copy. Shares memory with `tree` where it can.
    Arrays on disk stay there.
    """
    if mesh is None:
        return tree
    whole = NamedSharding(mesh, PartitionSpec())

    def place(leaf):
        if on_disk(leaf):
            return leaf
        copies = [jax.device_put(leaf, device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(leaf.shape, whole, copies)

    return jax.tree.map(place, tree)


def local(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The way back from `replicate`: arrays on this process's default device, copied."""
    return tree if mesh is None else copied(tree)


def copied(tree: PyTree) -> PyTree:
    """Arrays of their own on this process's default device."""
    return jax.tree.map(lambda leaf: jnp.array(np.asarray(leaf)), tree)


def split_batches(batches: PyTree, mesh: Mesh | None) -> PyTree:
    """Indices `[S, B]` with every batch split over the devices, padded with -1 to a multiple of their number.

    Raises AssertionError where processes pass different indices: they would train on a mixture.
    """
    if mesh is None:
        return batches
    return jax.device_put(padded(batches, mesh), NamedSharding(mesh, PartitionSpec(None, _AXIS)))


def padded(batches: PyTree, mesh: Mesh | None) -> np.ndarray:
    """Indices `[S, B]` as numpy, padded with -1 to a multiple of the number of devices."""
    batches = np.asarray(batches)
    return np.pad(batches, ((0, 0), (0, -batches.shape[1] % (mesh.size if mesh else 1))), constant_values=-1)


def read_rows(array: Any, rows: Array, mesh: Mesh | None) -> jax.Array:
    """`array[rows]` of an array on the host or on disk, split over the devices: a process reads its own rows only."""
    if mesh is None:
        return jnp.asarray(array[rows])
    sharding = NamedSharding(mesh, PartitionSpec(_AXIS))
    shape = (len(rows), *array.shape[1:])
    return jax.make_array_from_callback(shape, sharding, lambda part: np.asarray(array[rows[part[0]]]))  # type: ignore[index]


def split_rows(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Inside a compiled function: keeps the leading axis of every array split over the devices."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(_AXIS)))
