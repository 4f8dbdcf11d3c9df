"""The benchmarks' command lines: a small setting prints its table, an unknown one is refused."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(module, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)


OTHERS = [pytest.param(module, marks=pytest.mark.slow) for module in ("scoring", "cycle", "precision")]


@pytest.mark.parametrize("module", ["training", *OTHERS])
def test_an_unknown_setting_is_refused(module):
    result = run(module, "--setting=resnet19")
    assert result.returncode == 2 and "resnet19" in result.stderr


@pytest.mark.slow
def test_a_small_setting_prints_its_table():
    setting = "small_cnn 8x8 batch 10 adam"
    result = run("training", f"--setting={setting}", "--repeats=1")
    assert result.returncode == 0, result.stderr
    heading, *rows = result.stdout.splitlines()
    assert "steps/s" in heading
    assert [row.removeprefix(setting).split()[0] for row in rows] == ["saal_jax", "floor"]
