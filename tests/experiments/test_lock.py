"""The lock of a workdir: never two owners, whoever comes and goes, and one line where it is refused."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from experiments.lock import lock
from saal_jax.errors import InputError

# Enters again and again; while it is the owner, a file beside the workdir says so, which none but one can create.
ENTERING = """
import os, pathlib, sys
from experiments.lock import lock
from saal_jax.errors import InputError

workdir, entries = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
input()
entered = 0
while entered < entries:
    try:
        with lock(workdir):
            os.close(os.open(f"{workdir}.owned", os.O_CREAT | os.O_EXCL))
            os.unlink(f"{workdir}.owned")
            entered += 1
    except InputError as error:
        assert "in use by process" in str(error) or "in use by another process" in str(error), error
"""


def enter(workdir, processes, entries):
    """Many processes enter the workdir `entries` times each, all at the same time."""
    command = [sys.executable, "-c", ENTERING, workdir, str(entries)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    try:
        assert all(process.stdout.readline() == "ready\n" for process in running)
        for process in running:
            process.stdin.write("\n")
            process.stdin.flush()
        errors = [process.communicate(timeout=300)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert not any(process.returncode for process in running), errors
    assert not list(workdir.parent.iterdir())  # nothing is left of it


def test_processes_that_come_and_go_are_never_two_owners(tmp_path):
    enter(tmp_path / "run", processes=2, entries=100)


@pytest.mark.slow
def test_many_processes_that_come_and_go_are_never_two_owners(tmp_path):
    enter(tmp_path / "run", processes=12, entries=100)


def test_who_opened_the_file_before_it_was_removed_does_not_own_the_workdir(tmp_path, monkeypatch):
    def locked_late(file, operation):  # in the meantime its owner leaves, and another process comes
        if not late:
            late.append(True)
            os.unlink(tmp_path / "run" / ".lock")
            late.append(open(tmp_path / "run" / ".lock", "w"))
        flock(file, operation)

    late, flock = [], fcntl.flock
    monkeypatch.setattr("fcntl.flock", locked_late)
    with lock(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
    late[1].close()
    assert not (tmp_path / "run").exists()


def test_an_owner_that_has_not_said_its_number_is_another_process(tmp_path):
    with lock(tmp_path / "run"):
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}: wait for it, or name another"):
            lock(tmp_path / "run").__enter__()
        os.truncate(tmp_path / "run" / ".lock", 0)
        with pytest.raises(InputError, match="in use by another process: wait"):
            lock(tmp_path / "run").__enter__()


def test_a_workdir_with_something_in_it_and_one_behind_a_link_stay(tmp_path):
    with lock(tmp_path / "run"):
        (tmp_path / "run" / "metrics.csv").touch()
    assert (tmp_path / "run" / "metrics.csv").exists()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with lock(tmp_path / "link"):
        assert (tmp_path / "folder" / ".lock").exists()
    assert (tmp_path / "link").is_dir() and not list((tmp_path / "folder").iterdir())


def test_what_cannot_be_locked_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "odd" / ".lock").mkdir(parents=True)
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / ".lock").symlink_to(tmp_path / "nowhere" / "lock")
    for name in ("file", "file/below", "broken", "odd", "away"):
        with pytest.raises(InputError, match=f"--workdir={tmp_path / name}: cannot be written"):
            lock(tmp_path / name).__enter__()

    def refuse(number):
        def flock(file, operation):
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr("fcntl.flock", refuse(errno.EACCES))
    with pytest.raises(InputError, match="cannot be written .Permission denied."):
        lock(tmp_path / "run").__enter__()
    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOSPC))
    with pytest.raises(OSError) as failed:
        lock(tmp_path / "run").__enter__()
    assert failed.value.errno == errno.ENOSPC
