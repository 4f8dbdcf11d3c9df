"""The files that a user names."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from saal_jax.errors import InputError


def user_path(path: str | os.PathLike) -> Path:
    """`path` with a `~` or `~name` at its start replaced by that user's home folder.

    Raises:
      InputError: there is no such home folder, or no file can be called that.

    >>> user_path("images/train").as_posix()
    'images/train'
    """
    text = os.fspath(path)
    if "\0" in text or "\\ud" in ascii(text):  # half of a surrogate pair is no text
        raise InputError(f"{text!a}: no file can be called that; write another name")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user, or one without HOME and without an entry in the system's list of users
        raise InputError(f"{text}: there is no such home folder; write the path out") from None


def data_folder(data_dir: str | None) -> Path:
    """Where data sets are looked for by name: `data_dir`, or where TFDS would."""
    return user_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds; OSError where it cannot be read, ValueError where it is none."""
    with open_file(path) as file:
        try:
            return json.loads(file.read())
        except RecursionError:
            raise ValueError("nested too deep") from None


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file to read; OSError for what could be waited for without end: a pipe, a terminal, a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer does not block
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        number, reason = (errno.EISDIR, "it is a folder") if stat.S_ISDIR(mode) else (errno.EINVAL, "no regular file")
        raise OSError(number, reason, os.fspath(path))
    return os.fdopen(descriptor, "rb")
