"""Decode once: named arrays on disk under a key made of the content they were decoded from."""

import os
import uuid
import warnings
from collections.abc import Callable, Iterable
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np

from saal_jax.errors import InputError
from saal_jax.paths import open_file, user_path

# part of every key: raise it whenever the same files are decoded to different arrays
DECODER = "2"


def content_key(facts: Iterable[str], files: Iterable[Path]) -> str:
    """A hex key of `facts` (all that matters besides the files) and of the bytes of `files`, in order."""
    key = sha256(repr((DECODER, *facts)).encode())
    for path in files:
        try:
            with open_file(path) as file:
                key.update(file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable or remove it") from None
    return key.hexdigest()


def cached(key: str, cache_dir: str | None, names: Iterable[str], make: Callable[[], Iterable[np.ndarray]]):
    """The arrays called `names` that are stored under `key`, or else those of `make()`, stored if that is possible.

    A file that cannot be read is replaced; a folder that cannot be written is no error. Files are written whole or
    not at all, so several processes may share the folder.
    """
    folder = user_path(cache_dir) if cache_dir else _default_folder()
    if folder is None:
        return list(make())
    path = folder / f"{key}.npz"
    try:
        with open(path, "rb") as file, np.load(file) as stored:  # the zip format's checksums find flipped bits
            return [stored[name] for name in names]
    except Exception:  # missing, truncated, garbage: whatever it is, the images are decoded again
        pass
    arrays = list(make())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, dict(zip(names, arrays, strict=True)))
    except OSError:
        pass  # read-only or full: the next load decodes again
    return arrays


def _default_folder():
    try:
        return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "saal_jax"
    except InputError:
        warnings.warn("no home folder: decoded images are not kept; name a folder with XDG_CACHE_HOME", stacklevel=2)
        return None


def _write_whole(path, arrays):
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
