"""Orbax checkpoints between cycles, each with a digest of what it holds."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
from flax import serialization

from saal_jax.errors import InputError, one_line
from saal_jax.typing import PyTree

_KEPT = 2
_PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ESTALE)  # no sign of damage
_MARGIN = 2**20  # bytes for the files around the arrays


def save(directory: str | os.PathLike, cycle: int, state: PyTree, record: dict) -> None:
    """Writes `state` (a pytree of arrays) and `record` (JSON) as the checkpoint of `cycle`, and keeps the last two.

    Returns only when everything is on disk; until then the one before stays the newest. Of several processes one alone
    saves. Raises OSError (ENOSPC) when the disk is full.
    """
    import orbax.checkpoint as ocp

    tree = jax.tree.map(np.asarray, serialization.to_state_dict(state))
    record = {**json.loads(json.dumps(record)), "cycle": cycle}
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _MARGIN
    Path(directory).mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(directory).free < needed:
        raise _no_space(directory)
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(tree),
        record=ocp.args.JsonSave({**record, "digest": _digest(tree, record)}),
    )
    with _manager(directory, writes=True) as manager:
        for step in manager.all_steps():
            if step >= cycle:  # damaged ones, from which the run fell back
                manager.delete(step)
        try:
            saved = manager.save(cycle, args=items)
        except ValueError as error:  # tensorstore's form of ENOSPC and EDQUOT
            if "No space left" in str(error) or "quota exceeded" in str(error):
                raise _no_space(directory) from None
            raise
        if not saved:
            raise OSError(errno.EIO, "the checkpoint was not saved", str(directory))


def load_newest(directory: str | os.PathLike) -> tuple[int, PyTree, dict] | None:
    """`(cycle, tree, record)` of the newest checkpoint whose digest fits, or None where there is none at all.

    Warns of each damaged one, and raises InputError where all are damaged: no run may start over them.
    """
    if not Path(directory).is_dir():
        return None
    import orbax.checkpoint as ocp

    damaged: list[str] = []
    with _manager(directory) as manager:
        for cycle in sorted(manager.all_steps(), reverse=True):
            items = ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
            try:
                _check_files(Path(directory) / str(cycle))
                restored = manager.restore(cycle, args=items)
                tree, record = jax.tree.map(np.asarray, restored.state), dict(restored.record)
                whole = record.pop("digest") == _digest(tree, record)
                own_cycle = record.pop("cycle", cycle)  # not written by the first versions
                if whole and own_cycle == cycle:
                    for message in damaged:
                        warnings.warn(f"{message}; using the one before", stacklevel=2)
                    return cycle, tree, record
                reason = f"it is that of cycle {own_cycle}" if whole else "its contents do not match their digest"
            except MemoryError:
                raise
            except OSError as error:
                if error.errno in _PASSING:
                    raise
                reason = f"it cannot be read ({error})"
            except Exception as error:  # whatever a damaged file makes the readers below raise
                missing = "a part is missing: " if isinstance(error, KeyError) else ""
                reason = f"it cannot be read ({missing}{one_line(error)})"
            damaged.append(f"checkpoint {Path(directory) / str(cycle)} is damaged: {reason}")
    if damaged:
        raise InputError(f"{damaged[0]}, nor is one before it whole: restore a copy, or start again in another folder")
    return None


def _check_files(folder):
    """Refuses what a reader would wait for without end, such as a pipe."""
    for path in folder.rglob("*"):
        if not path.is_dir() and not path.is_file():
            raise ValueError(f"{path.name} is no regular file")


def saved_seeds(root: str | os.PathLike) -> list[int]:
    """The seeds that have a folder of checkpoints, `seed_N`, below `root`."""
    names = (run.name.removeprefix("seed_") for run in Path(root).glob("seed_*"))
    return sorted(int(name) for name in names if name.isdecimal())


def into(target: PyTree, tree: PyTree) -> PyTree:
    """`tree`, as `load_newest` returns it, in the structure of `target`."""
    return serialization.from_state_dict(target, tree)


@contextlib.contextmanager
def _manager(directory, *, writes=False):
    """Orbax's manager, synchronous, of this process alone, and silent about what is raised anyway."""
    import orbax.checkpoint as ocp

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    options = ocp.CheckpointManagerOptions(
        max_to_keep=_KEPT,
        create=False,
        cleanup_tmp_directories=writes,
        enable_async_checkpointing=False,
        multiprocessing_options=alone,
    )
    try:
        with ocp.CheckpointManager(Path(directory).absolute(), options=options) as manager:
            yield manager
    finally:
        logger.setLevel(level)


def digests(tree: PyTree) -> dict:
    """The first 16 hex digits of a SHA-256 over type, shape and bytes of each array of a pytree, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(serialization.to_state_dict(tree))
    return {
        ".".join(str(key.key) for key in path): hashlib.sha256(
            f"{leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes()
        ).hexdigest()[:16]
        for path, leaf in leaves
    }


def _no_space(directory):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def _digest(tree, record):
    """SHA-256 over every array's path, type, shape and bytes, and the record."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
