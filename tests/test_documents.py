"""The programs in the documents run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TEXTS = [path.read_text() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
PROGRAMS = [program for text in TEXTS for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


def test_a_loop_of_ones_own(capsys):
    (program,) = [text for text in PROGRAMS if "saal_jax.ask(" in text]
    names = {}
    exec(program, names)
    counts, accuracies = np.loadtxt(capsys.readouterr().out.splitlines(), unpack=True)
    assert counts.tolist() == [20, 30, 40] and (accuracies > 30).all()
    assert names["labels"].known.sum() == 40 and len(names["indices"]) == 10
    assert sum(line != "" for line in program.splitlines()) <= 28


def test_scores_of_a_program_of_ones_own(monkeypatch):
    """That of a finished run, whose model is replaced by one that nobody trained."""
    (program,) = [text for text in PROGRAMS if "load_model" in text]
    params = {"kernel": np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32) / 1000}
    apply_fn = lambda params, images: images.reshape(len(images), -1) @ params["kernel"]  # noqa: E731
    monkeypatch.setattr("saal_jax.load_model", lambda workdir: (apply_fn, params))
    names = {}
    exec(program, names)
    assert names["count"] == 10 and np.isfinite(names["scores"]).all()
    best = np.argsort(names["scores"])[::-1][:10]
    assert set(np.asarray(names["picked"]).tolist()) == set(best.tolist())


def test_a_method_of_ones_own_as_contributing_has_it(tmp_path):
    (program,) = [text for text in PROGRAMS if "def doubt(" in text]
    names = {}
    exec(program, names)
    assert callable(names["doubt"](lambda weights, images: images))


def test_boxes_and_masks(capsys):
    (program,) = [text for text in PROGRAMS if "load_masks" in text]
    exec(program, {})
    boxes, masks = capsys.readouterr().out.splitlines()
    assert boxes == "(400, 2, 4) (400, 2) (400, 2)"
    assert masks == "(400, 24, 32) ('background', 'disc', 'square', 'triangle', 'cross')"


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=str)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists()


@pytest.mark.parametrize("text", PROGRAMS)
def test_no_line_is_too_long(text):
    assert max(map(len, text.splitlines())) <= 120
