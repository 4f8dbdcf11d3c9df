"""What is slow to import is imported by those who use it."""

import subprocess
import sys

import pytest

HEAVY = {"matplotlib", "orbax", "scipy.stats", "sklearn", "tensorflow", "tensorflow_datasets"}
PROGRAM = "import sys, {module}; print(*sys.modules)"


@pytest.mark.parametrize("module", ["saal_jax", "experiments.run"])
def test_nothing_heavy_comes_along(module):
    told = subprocess.run([sys.executable, "-c", PROGRAM.format(module=module)], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert not HEAVY & set(told.stdout.split())
