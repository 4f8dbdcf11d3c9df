"""Every recipe from the command line: continued to the same bytes, loaded back; pairs that do not fit are refused."""

import csv
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from experiments.methods import document, methods
from experiments.run import main
from saal_jax import checkpoint, data, load_model, loop
from saal_jax.recipes import OFFERS, RECIPES
from tests.toys import RUN

ARGUMENTS = [
    *RUN,
    "--config.acquisition.name=random",
    "--config.seeds=3",
    "--config.cycles=2",
    "--config.epochs=2",
]
QUICK = {
    "ensemble": ["--config.recipe.members=2"],
    "semi_supervised_loss_prediction": ["--config.recipe.left_out=2", "--config.recipe.module_epochs=1"],
}


def run(workdir, recipe, *more):
    arguments = [*ARGUMENTS, f"--config.recipe.name={recipe}", *QUICK.get(recipe, []), *more]
    return main([*arguments, f"--workdir={workdir}"])


def test_more_left_out_than_there_is_to_begin_with_is_refused_before_anything_is_written(tmp_path, capsys):
    few = ["--config.initial_labels=20", "--config.batch_size=2", "--config.recipe.module_epochs=0"]
    sslpm = "semi_supervised_loss_prediction"
    assert run(tmp_path / "run", sslpm, *few, "--config.recipe.left_out=20") == 2
    assert capsys.readouterr().err == "error: left_out is 20 of 20 labelled images: lower it\n"
    assert not (tmp_path / "run").exists()
    assert (
        run(tmp_path / "run", "semi_supervised_loss_prediction", *few, "--config.recipe.left_out=19", "--dry_run") == 0
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_of_any_recipe_continues_to_the_same_bytes_and_loads(recipe, tmp_path, monkeypatch):
    def make_training(problem, labels, before, number):
        if number == 2:
            raise KeyboardInterrupt
        return plain(problem, labels, before, number)

    plain = loop.make_training
    assert run(tmp_path / "whole", recipe) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_training", make_training)
        assert run(tmp_path / "stopped", recipe) == 130
    assert run(tmp_path / "stopped", recipe) == 0
    for name in ("metrics.csv", "selections.csv", "class_accuracies.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
    trees = [checkpoint.load_newest(tmp_path / run / "checkpoints" / "seed_3")[1] for run in ("whole", "stopped")]
    chex.assert_trees_all_equal(*trees)

    apply_fn, params = load_model(tmp_path / "whole")
    test = data.load("digits[:10%]").test
    logits = np.asarray(jax.jit(apply_fn)(params, test.images))
    accuracy = 100 * float((logits.argmax(axis=1) == test.labels).mean())
    with open(tmp_path / "whole" / "metrics.csv") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["test_accuracy"]) == pytest.approx(accuracy, abs=1e-4)
    assert ("teacher_accuracy" in last) == (recipe == "snapshots")


SUPERVISED = {"apply", "logits", "features", "normalize", "task"}


@pytest.mark.parametrize("method", [method for method in methods() if not SUPERVISED >= set(method.needs)])
def test_a_pair_that_does_not_fit_is_refused_by_name(method, tmp_path, capsys):
    assert run(tmp_path / "run", "supervised", f"--config.acquisition.name={method.name}") == 2
    error = capsys.readouterr().err
    (missing, *_) = [name for name in method.needs if name not in SUPERVISED]
    what, offered_by = OFFERS[missing]
    assert f"acquisition {method.name} needs {missing} ({what}), which recipe supervised does not offer" in error
    assert offered_by in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_document_is_what_the_code_says():
    path = Path(__file__).parents[2] / "docs" / "methods.md"
    assert path.read_text() == document() + "\n", "run `python -m experiments.methods > docs/methods.md`"


def test_the_list(capsys):
    assert main(["--list"]) == 0
    assert "\nsaal\n" in capsys.readouterr().out


def test_embeddings_and_an_imbalanced_pool(tmp_path, capsys):
    """Rows follow the split as it is stored, whatever the imbalance leaves of it."""
    train = data.load("digits").train
    np.save(tmp_path / "mine.npy", np.arange(2.0 * len(train.ids)).reshape(-1, 2))
    more = [f"--config.embeddings={tmp_path / 'mine.npy'}", "--config.dataset=digits", "--config.cycles=1"]
    more += ["--config.imbalance.name=alternating", "--config.imbalance.few=3", "--config.imbalance.many=20"]
    assert run(tmp_path / "run", "supervised", *more) == 0
    _, _, record = checkpoint.load_newest(tmp_path / "run" / "checkpoints" / "seed_3")
    assert record["pool_size"] == 5 * 3 + 5 * 20
    np.save(tmp_path / "mine.npy", np.ones((len(train.ids), 2)))
    capsys.readouterr()
    assert run(tmp_path / "run", "supervised", *more, "--config.cycles=2") == 2
    assert "was begun on other images or embeddings" in capsys.readouterr().err
    np.save(tmp_path / "mine.npy", np.ones((3, 2)))
    assert run(tmp_path / "other", "supervised", *more) == 2
    assert "3 rows, but the pool has" in capsys.readouterr().err
