"""Runs in bfloat16 from the command line: what is loaded back computes as the run did, and none changes on its way."""

import csv
import shutil

import jax
import numpy as np
import pytest

from experiments import schema
from experiments.run import main
from experiments.setup import build
from saal_jax import checkpoint, data, load_model

ARGUMENTS = ["--config.dataset=digits[:15%]", "--config.seeds=1", "--config.cycles=1", "--config.epochs=3"]
ARGUMENTS += ["--config.model.width=2"]


def run(workdir, precision, *more):
    chosen = [] if precision is None else [f"--config.precision={precision}"]
    return main(["--config=digits_saal", *ARGUMENTS, *chosen, *more, f"--workdir={workdir}"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdirs = {name: tmp_path_factory.mktemp(name) / "run" for name in ("float32", "bfloat16")}
    for name, workdir in workdirs.items():
        assert run(workdir, name) == 0
    return workdirs


def logits(apply_fn, params):
    return np.asarray(jax.jit(apply_fn)(params, data.load("digits[:15%]").test.images))


def test_a_run_is_loaded_as_it_computed(finished):
    config = schema.override(schema.load("digits_saal"), [*ARGUMENTS, "--config.precision=bfloat16"])
    recipe = build(config, None).problem.recipe
    _, tree, record = checkpoint.load_newest(finished["bfloat16"] / "checkpoints" / "seed_1")
    weights = checkpoint.into(recipe.init(jax.random.key(0)), tree["train"]).weights
    apply_fn, params = load_model(finished["bfloat16"])
    expected = logits(lambda params, images: recipe.apply(weights._replace(params=params), images), params)
    np.testing.assert_array_equal(logits(apply_fn, params), expected)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, tree["train"]["weights"]))} == {np.dtype("float32")}
    assert record["config"]["precision"] == "bfloat16"

    apply_float32, _ = load_model(finished["float32"])
    others = logits(apply_float32, params)  # the same weights, otherwise computed
    assert (others != expected).any()
    np.testing.assert_allclose(others, expected, atol=0.05 * np.abs(expected).max())


def test_its_table_has_the_accuracy_of_what_is_loaded(finished):
    found = logits(*load_model(finished["bfloat16"]))
    accuracy = 100 * float((found.argmax(1) == data.load("digits[:15%]").test.labels).mean())
    with open(finished["bfloat16"] / "metrics.csv") as file:
        assert float(list(csv.DictReader(file))[-1]["test_accuracy"]) == pytest.approx(accuracy, abs=1e-4)


@pytest.mark.parametrize(("begun", "continued"), [("bfloat16", None), ("float32", "bfloat16")])
def test_a_run_does_not_change_its_precision(finished, begun, continued, capsys):
    assert run(finished[begun], continued, "--config.cycles=2") == 2
    changed = f"precision ({begun} -> {continued or 'float32'})"
    assert f"holds a run with another config: {changed};" in capsys.readouterr().err


def test_a_record_without_it_is_of_a_run_in_float32(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished["float32"], tmp_path / "run")
    folder = workdir / "checkpoints" / "seed_1"
    expected = logits(*load_model(workdir))
    cycle, tree, record = checkpoint.load_newest(folder)
    del record["config"]["precision"], record["model"]["dtype"]
    shutil.rmtree(folder)
    checkpoint.save(folder, cycle, tree, record)
    np.testing.assert_array_equal(logits(*load_model(workdir)), expected)
    assert run(workdir, None) == 0
    assert "is finished" in capsys.readouterr().out


def test_another_word_is_refused(tmp_path, capsys):
    assert run(tmp_path / "run", "bfloat") == 2
    assert "config.precision='bfloat': not one of float32, bfloat16; did you mean bfloat16?" in capsys.readouterr().err
