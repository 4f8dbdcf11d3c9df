"""Two processes on this machine: the same results as one, a killed one ends the other, and both continue."""

import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.run import main
from saal_jax import checkpoint
from saal_jax.data import load
from tests.toys import RUN

ARGUMENTS = [
    *RUN,
    "--config.seeds=3",
    "--config.cycles=2",
    "--config.epochs=2",
    "--config.warm_start=true",
]
PLAIN = ["-m", "experiments.run"]
TABLES = ["metrics.csv", "selections.csv", "initial_labels.csv", "class_accuracies.csv"]


def stopping(phase, cycle):
    return [Path(__file__).with_name("interrupted.py"), str(int(signal.SIGKILL)), phase, str(cycle)]


def run_two(*arguments, programs=(PLAIN, PLAIN), **environment):
    """Runs both processes to their ends; returns their statuses, outputs and errors."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    common = {"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, *program, "--distributed", *arguments],
            env={**os.environ, **common, "JAX_PROCESS_ID": str(number), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, program in enumerate(programs)
    ]
    try:
        texts = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two") / "run"
    first, second = run_two(*ARGUMENTS, f"--workdir={workdir}")
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "seed 3 cycle 2/2" in first[1]
    assert "seed 3" not in second[1]
    return workdir


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_processes_choose_as_one(uninterrupted, tmp_path):
    assert main([*ARGUMENTS, f"--workdir={tmp_path / 'run'}"]) == 0
    ours, theirs = rows(uninterrupted / "selections.csv"), rows(tmp_path / "run" / "selections.csv")
    assert [row["index"] for row in ours] == [row["index"] for row in theirs]
    scores = [[float(row["score"]) for row in table] for table in (ours, theirs)]
    np.testing.assert_allclose(*scores, rtol=1e-4)


@pytest.mark.slow
def test_two_processes_read_from_the_disk(tmp_path):
    data = load("digits[:15%]")
    parts = {"train": data.train, "test": data.test}
    arrays = {f"{part}_{name}": array for part in parts for name, array in parts[part]._asdict().items()}
    np.savez(tmp_path / "digits.npz", **arrays)
    arguments = [*ARGUMENTS, f"--config.dataset={tmp_path / 'digits.npz'}"]
    for name, more in (("memory", []), ("disk", ["--config.max_resident=1000"])):
        for ended in run_two(*arguments, *more, f"--workdir={tmp_path / name}", XDG_CACHE_HOME=str(tmp_path)):
            assert ended[0] == 0, ended[2]
    assert len(list((tmp_path / "saal_jax").glob("*.npy"))) == 2
    ours, theirs = (rows(tmp_path / name / "selections.csv") for name in ("disk", "memory"))
    assert [row["index"] for row in ours] == [row["index"] for row in theirs]


# Killed is the one that does not write, in training, or the one that does, in the middle of a save.
@pytest.mark.slow
@pytest.mark.parametrize(("killed", "phase"), [(1, "train"), (0, "save")])
def test_a_killed_process_ends_the_other_and_both_continue(uninterrupted, tmp_path, killed, phase):
    workdir = tmp_path / "run"
    programs = [PLAIN, PLAIN]
    programs[killed] = stopping(phase, 1)
    ended = run_two(*ARGUMENTS, f"--workdir={workdir}", programs=programs)
    assert ended[killed][0] == -signal.SIGKILL, ended[killed][2]
    assert ended[1 - killed][0] not in (0, -signal.SIGKILL)
    assert len(rows(workdir / "metrics.csv")) == 1
    first, second = run_two(*ARGUMENTS, f"--workdir={workdir}")
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "cycle 0/2" not in first[1] and "cycle 1/2" in first[1]
    for name in TABLES:
        assert (workdir / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    ours, theirs = (checkpoint.load_newest(run / "checkpoints" / "seed_3") for run in (workdir, uninterrupted))
    assert ours[0] == theirs[0] == 2
    assert ours[2]["history"][2]["asked"] == theirs[2]["history"][2]["asked"]


@pytest.mark.slow
def test_what_one_process_refuses_all_do(uninterrupted):
    for status, _, errors in run_two(*ARGUMENTS, "--config.epochs=3", f"--workdir={uninterrupted}"):
        assert status == 2
        assert "error: " in errors and "epochs (2 -> 3)" in errors


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("JAX_COORDINATOR_ADDRESS", "localhost", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "localhost:٣", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "localhost:0", "must be HOST:PORT"),
        ("JAX_COORDINATOR_ADDRESS", "localhost:65536", "must be HOST:PORT"),
        ("JAX_NUM_PROCESSES", "two", "JAX_NUM_PROCESSES='two'"),
        ("JAX_PROCESS_ID", "-1", "JAX_PROCESS_ID='-1'"),
    ],
)
def test_a_wrong_variable_is_refused(variable, value, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    assert main([*ARGUMENTS, f"--workdir={tmp_path / 'run'}", "--distributed"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("", marks=pytest.mark.slow)])
def test_a_port_in_use_is_refused(host, tmp_path):
    command = [sys.executable, *PLAIN, *ARGUMENTS, f"--workdir={tmp_path / 'run'}", "--distributed"]
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        variables = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
        refused = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert refused.returncode == 2
    assert f"cannot listen on port {port} (Address already in use)" in refused.stderr
    assert refused.stderr.count("\n") == 1 and not (tmp_path / "run").exists()


def test_an_environment_that_tells_nothing_is_one_line(tmp_path):
    command = [sys.executable, *PLAIN, *ARGUMENTS, f"--workdir={tmp_path / 'run'}", "--distributed"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert "set JAX_COORDINATOR_ADDRESS=HOST:PORT" in refused.stderr
    assert not (tmp_path / "run").exists()
