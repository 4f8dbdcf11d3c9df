"""A user's own embeddings of the pool, such as those of a self-supervised network, from a `.npy` file."""

import hashlib

import numpy as np

from saal_jax.errors import InputError, one_line
from saal_jax.paths import open_file, user_path


def load_embeddings(path: str, size: int) -> np.ndarray:
    """Reads one embedding per image of the pool.

    Args:
      path: a `.npy` file of real numbers [N, D]; row `i` belongs to example `i` of the pool, `load(...).train`.
      size: N, the number of images in the pool.

    Returns:
      float32 [N, D]; mapped from the disk where it is stored as float32.

    Raises:
      InputError: there is no such file, or it holds anything else; the message says what.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file, np.arange(6.0).reshape(3, 2))
    ...     file.flush()
    ...     load_embeddings(file.name, 3)
    array([[0., 1.],
           [2., 3.],
           [4., 5.]], dtype=float32)
    """
    file = user_path(path)
    try:
        open_file(file).close()  # refuses what is no regular file
        # what np.load does for .npy files; archives and pickles, which that takes too, are refused
        stored = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except Exception as error:  # a damaged header raises many kinds
        reason = one_line(error)
        raise InputError(f"{path}: no .npy file of a plain array ({reason}); write it with np.save") from None
    if stored.ndim != 2 or stored.dtype.kind not in "iuf" or not stored.shape[1]:
        kind = f"{stored.dtype} {list(stored.shape)}"
        raise InputError(f"{path}: the array is {kind}; store real numbers [N, D], one row per image of the pool")
    if len(stored) != size:
        raise InputError(
            f"{path}: {len(stored)} rows, but the pool has {size} images; store one row for each, in the pool's order"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        embeddings = np.asarray(stored, np.float32)
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{path}: row {finite.argmin()} is not finite in float32; correct it and store the array again"
        )
    return embeddings


def digest(embeddings: np.ndarray) -> str:
    """A fingerprint (SHA-256, hex) of the values and their shape, by which a run notices that they were exchanged."""
    content = hashlib.sha256(repr(embeddings.shape).encode())
    content.update(np.ascontiguousarray(embeddings, "<f4").data)
    return content.hexdigest()
