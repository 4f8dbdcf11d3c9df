"""The lock on a workdir: one process at a time works there."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from saal_jax.errors import InputError

_ATTEMPTS = 1000  # one fails only where another process comes or goes at that very moment, or all do


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds the workdir for this process; the system lets go of it when the process ends, however it ends.

    Makes the workdir, and removes it where nothing came of it. Raises InputError where another process holds it or it
    cannot be written, OSError where the disk is full.
    """
    with _locked(workdir) as file:
        with contextlib.suppress(OSError):  # on a full disk the file does not say which process it is
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # what cannot be removed, as the workdir where it is a link, stays
                if os.listdir(workdir) == [".lock"]:
                    os.unlink(workdir / ".lock")
                    workdir.rmdir()


def _locked(workdir: Path) -> BinaryIO:
    """The lock file, open and locked."""
    path, failed = workdir / ".lock", OSError()
    for _ in range(_ATTEMPTS):
        with contextlib.ExitStack() as opened:
            try:
                workdir.mkdir(parents=True, exist_ok=True)
                file = opened.enter_context(open(path, "ab+", buffering=0))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its owner may have removed it since it was opened; the next process then locks another.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    opened.pop_all()
                    return file
            except (FileNotFoundError, FileExistsError) as error:  # the workdir went or came in between
                failed = error
            except BlockingIOError:
                file.seek(0)
                owner = file.read().decode(errors="replace").strip()
                raise InputError(
                    f"--workdir={workdir} is in use by {f'process {owner}' if owner else 'another process'}: wait for "
                    "it, or name another"
                ) from None
            except OSError as error:
                failed = error
                break
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        raise failed
    raise InputError(f"--workdir={workdir}: cannot be written ({failed.strerror}); name another")
