"""Real kills in every phase, a damaged checkpoint and a full disk: the same command continues to the same bytes."""

import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import chex
import pytest

from experiments.run import main
from saal_jax import checkpoint
from tests.toys import RUN

ARGUMENTS = [
    *RUN,
    "--config.seeds=3,4",
    "--config.cycles=3",
    "--config.epochs=2",
    "--config.warm_start=true",
]
TABLES = ["metrics.csv", "selections.csv", "initial_labels.csv", "class_accuracies.csv"]


def run(workdir):
    return main([*ARGUMENTS, f"--workdir={workdir}"])


def stop(workdir, number, phase, cycle):
    command = [sys.executable, Path(__file__).with_name("interrupted.py"), str(int(number)), phase, str(cycle)]
    return subprocess.run([*command, *ARGUMENTS, f"--workdir={workdir}"], capture_output=True, text=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert run(workdir) == 0
    return workdir


def assert_same_results(workdir, expected):
    for name in TABLES:
        assert (workdir / name).read_bytes() == (expected / name).read_bytes(), name
    for seed in (3, 4):
        ours, theirs = (checkpoint.load_newest(run / "checkpoints" / f"seed_{seed}") for run in (workdir, expected))
        assert ours[0] == theirs[0] == 3
        chex.assert_trees_all_equal(ours[1], theirs[1])
    assert not list(workdir.rglob("*.new"))
    assert not list(workdir.rglob("*tmp*"))


ALL = [("save", 0), ("train", 1), ("score", 1), ("select", 0), ("save", 2)]


@pytest.mark.parametrize("phases", [[("save", 0)], pytest.param(ALL, marks=pytest.mark.slow)], ids=["once", "often"])
def test_killed_in_every_phase(uninterrupted, tmp_path, phases):
    """One run, killed again and again: each process dies somewhere else, and the next one goes on."""
    workdir = tmp_path / "run"
    for phase, cycle in phases:
        stopped = stop(workdir, signal.SIGKILL, phase, cycle)
        assert stopped.returncode == -signal.SIGKILL, stopped.stderr
    assert run(workdir) == 0
    assert_same_results(workdir, uninterrupted)


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_stops_cleanly_when_asked(uninterrupted, tmp_path, number, status):
    workdir = tmp_path / "run"
    stopped = stop(workdir, number, "train", 2)
    assert stopped.returncode == status
    assert stopped.stderr == "stopped; the same command continues after the last finished cycle\n"
    assert len((workdir / "metrics.csv").read_text().splitlines()) == 3
    assert run(workdir) == 0
    assert_same_results(workdir, uninterrupted)


def test_a_damaged_newest_checkpoint_costs_one_cycle(uninterrupted, tmp_path, capsys):
    workdir = shutil.copytree(uninterrupted, tmp_path / "run")
    arrays = max((workdir / "checkpoints" / "seed_4" / "3").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(arrays.read_bytes())
    middle = slice(len(content) // 4, len(content) // 2)  # a single byte may be one that says nothing
    content[middle] = bytes(255 - byte for byte in content[middle])
    arrays.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run(workdir) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: checkpoint") and "seed_4/3 is damaged" in captured.err
    assert "seed 4 cycle 3/3" in captured.out and "cycle 2/3" not in captured.out
    assert_same_results(workdir, uninterrupted)


def test_a_full_disk_ends_with_a_usable_workdir(uninterrupted, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs more rights than this user has")
    try:
        first = [argument.replace("3,4", "3").replace("cycles=3", "cycles=1") for argument in ARGUMENTS]
        assert main([*first, f"--workdir={disk / 'run'}"]) == 0
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(b"x" * (free - 600_000))  # less than a checkpoint asks for
        assert run(disk / "run") == 1
        error = capsys.readouterr().err
        assert "no space left" in error and str(disk / "run") in error and "the same command continues" in error
        (disk / "filler").unlink()
        assert run(disk / "run") == 0
        assert_same_results(disk / "run", uninterrupted)
    finally:
        subprocess.run(["umount", disk], check=True)
