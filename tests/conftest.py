import jax
import pytest

collect_ignore = ["experiments/interrupted.py"]  # a program of its own, run by its neighbour


@pytest.fixture(autouse=True)
def _no_silent_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield
