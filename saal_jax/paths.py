"""Paths as a user writes them."""

import os
from pathlib import Path

from saal_jax.errors import InputError


def user_path(path: str | os.PathLike) -> Path:
    """`path` with a `~` or `~name` at its start replaced by that user's home folder.

    Raises:
      InputError: there is no such home folder.

    >>> user_path("images/train").as_posix()
    'images/train'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or one without HOME and without an entry in the system's list of users
        raise InputError(f"{path}: there is no such home folder; write the path out") from None
