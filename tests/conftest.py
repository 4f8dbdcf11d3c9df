import os
from pathlib import Path

# The same small programs are compiled by many tests and by the processes they start: share them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402  (it reads the environment)
import pytest  # noqa: E402

collect_ignore = ["experiments/interrupted.py"]  # a program of its own, run by its neighbour


@pytest.fixture(autouse=True)
def _no_silent_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield
