"""Decode once: named arrays on disk under a key made of the content they were decoded from."""

import io
import os
import uuid
import warnings
from collections.abc import Callable, Iterable
from hashlib import file_digest, sha256
from pathlib import Path
from zlib import crc32

import numpy as np

from saal_jax.data.on_disk import spans
from saal_jax.errors import InputError, one_line
from saal_jax.paths import open_file, user_path

# part of every key: raise it whenever the same files are decoded to different arrays
DECODER = "2"


def content_key(facts: Iterable[str], files: Iterable[Path]) -> str:
    """A hex key of `facts` (all that matters besides the files) and of the bytes of `files`, in order."""
    key = sha256(repr((DECODER, *facts)).encode())
    for path in files:
        try:
            with open_file(path) as file:
                key.update(file_digest(file, "sha256").digest())  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); make it readable or remove it") from None
    return key.hexdigest()


def cached(key: str, cache_dir: str | None, names: Iterable[str], make: Callable[[], Iterable[np.ndarray]]):
    """The arrays called `names` that are stored under `key`, or else those of `make()`, stored if that is possible.

    A file that cannot be read is replaced; a folder that cannot be written is no error. Files are written whole or
    not at all, so several processes may share the folder.
    """
    folder = _folder(cache_dir)
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
        _write_whole(path, lambda file: np.savez(file, **dict(zip(names, arrays, strict=True))))  # type: ignore[arg-type]
    except OSError:
        pass  # read-only or full: the next load decodes again
    return arrays


def cached_on_disk(key: str, cache_dir: str | None, count: int, make: Callable[[], Iterable[np.ndarray]]) -> np.memmap:
    """The `count` images that are stored under `key`, mapped from the disk; the blocks of `make()` are stored first
    where there are none. Raises InputError where that is impossible.
    """
    folder = _folder(cache_dir)
    if folder is None:
        raise InputError(
            f"{count} images take more than max_resident, but there is no folder to keep them in: name a cache folder, "
            "or raise max_resident"
        )
    path = folder / f"{key}.npy"
    try:
        return _mapped(path)
    except Exception:  # missing, truncated, garbage
        pass
    try:
        _write_whole(path, lambda file: _write_images(file, count, make()))
    except OSError as error:
        raise InputError(
            f"{count} images take more than max_resident, but cannot be written to {folder} ({one_line(error)}): make "
            "room there, or raise max_resident"
        ) from None
    return np.lib.format.open_memmap(path, mode="r")


def _write_images(file, count, blocks):
    """A `.npy` file and, behind it, a checksum of all before."""
    checksum = 0
    for number, block in enumerate(blocks):
        content = np.ascontiguousarray(block).data
        if number == 0:
            header = io.BytesIO()
            form = {"descr": "|u1", "fortran_order": False, "shape": (count, *block.shape[1:])}
            np.lib.format.write_array_header_1_0(header, form)
            file.write(header.getvalue())
            checksum = crc32(header.getvalue())
        file.write(content)
        checksum = crc32(content, checksum)
    file.write(_as_bytes(checksum))


def _mapped(path):
    with open(path, "rb") as file:
        size = os.path.getsize(path) - 4
        if _checksum(file, size) != file.read():
            raise ValueError("bits have flipped")
    return np.lib.format.open_memmap(path, mode="r")


def _checksum(file, size):
    """Of the next `size` bytes."""
    checksum = 0
    for start, stop in spans(size, 1):
        checksum = crc32(file.read(stop - start), checksum)
    return _as_bytes(checksum)


def _as_bytes(checksum):
    return checksum.to_bytes(4, "little")


def _folder(cache_dir):
    if cache_dir:
        return user_path(cache_dir)
    try:
        return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "saal_jax"
    except InputError:
        warnings.warn("no home folder: decoded images are not kept; name a folder with XDG_CACHE_HOME", stacklevel=2)
        return None


def _write_whole(path, write):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
