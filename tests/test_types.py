"""What a user's type checker sees of functions that are decorated."""

from pathlib import Path

import pytest
from mypy import api

CALLS = """
import jax
import numpy as np
import saal_jax

key, rows, ids, available = jax.random.key(0), np.ones((4, 2)), np.arange(4), np.ones(4, bool)
count: jax.Array = saal_jax.kmeans_plusplus(key, rows, ids, available, 2, sample_weight=ids).count
indices: str = saal_jax.top_k(key, ids, ids, available, 2).indices
saal_jax.top_k(key, ids, ids, available, "two")
saal_jax.score_pool(lambda scale, chunk: scale * chunk, 2.0, ids, chunk_size="half")
saal_jax.score_pool(lambda scale, chunk: scale * chunk, 2.0, ids, chunks=2)
"""


@pytest.mark.slow
def test_decorated_functions_keep_their_signatures(monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parent.parent)  # where mypy's options are, and saal_jax
    program = tmp_path / "calls.py"
    program.write_text(CALLS)
    output, errors, _ = api.run(["--config-file=pyproject.toml", str(program)])
    assert not errors
    wrong = [line.split()[-1] for line in output.splitlines() if ": error: " in line]
    assert wrong == ["[assignment]", "[arg-type]", "[arg-type]", "[call-arg]"], output  # of the last four lines
