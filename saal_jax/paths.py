"""The files that a user names."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from saal_jax.errors import InputError


def user_path(text: str | Path) -> Path:
    """The path that a user means, `~` expanded; `InputError` where there is no such home, or no path can be that."""
    try:
        os.fsencode(text)
        path = Path(text).expanduser()
    except (RuntimeError, UnicodeEncodeError):
        raise InputError(f"{str(text)!a}: there is no such home folder, or no such name; write the path out") from None
    if "\0" in str(text):
        raise InputError(f"{str(text)!a}: a path cannot hold the character 0; write another")
    return path


def open_file(path: str | Path) -> BinaryIO:
    """Opens a regular file to read; OSError for what could be waited for without end: a pipe, a terminal, a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer does not block
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        number, reason = (errno.EISDIR, "it is a folder") if stat.S_ISDIR(mode) else (errno.EINVAL, "no regular file")
        raise OSError(number, reason, str(path))
    return os.fdopen(descriptor, "rb")
