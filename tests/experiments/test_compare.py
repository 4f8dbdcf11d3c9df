"""The comparison: every method under a recipe that fits, beside Random under the same, and the figures by hand."""

import numpy as np
import pytest

from experiments import compare, schema
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.spec import needs
from tests.toys import RUN

QUICK = [*RUN, "--config.cycles=1", "--config.epochs=1"]


def test_holm_by_hand():
    assert compare.holm({"a": 0.04, "b": 0.01, "c": 0.03}) == {"b": 0.03, "c": 0.06, "a": 0.06}
    assert compare.holm({"a": 0.9, "b": 0.6}) == {"b": 1.0, "a": 1.0}


def test_seeds_without_any_difference_are_no_evidence():
    assert compare._p_value(np.zeros(5)) == 1
    assert compare._p_value(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.0742, abs=1e-4)  # t = 2 sqrt 3


def test_every_method_has_a_recipe_that_offers_what_it_needs_and_random_beside_it():
    base = schema.load("digits_saal")
    trials = compare.trials_of(base, [*(ACQUISITIONS.keys() - {"ripu"}), *compare.VARIANTS])
    assert set(compare._possible(base)) == ACQUISITIONS.keys() - {"saal_bound", "ripu"} | set(compare.VARIANTS)
    for name, config in trials.items():
        recipe, method = name.split(":")[0].split("/")
        assert (config.recipe.name, config.acquisition.name) == (recipe, method)
        assert set(needs(method)) <= compare._offers(config).keys()
        assert trials[f"{recipe}/random"] == config.but(acquisition={"name": "random"})
    assert trials["supervised/saal"] == schema.load("digits_saal")
    assert trials["supervised/saal:mode=max"] == schema.load("digits_saal").but(acquisition={"mode": "max"})
    other = schema.load("digits_saal").but(acquisition={"rho": 0.3})
    assert compare.trials_of(other, ["saal"])["supervised/saal"] == schema.load("digits_saal")  # at its own defaults


def test_the_recipe_of_a_paper_is_its_own_where_labels_are_many():
    few, many = (compare.trials_of(schema.load(name), ["sslpm"]) for name in ("digits_saal", "cifar10_ll4al"))
    few, many = (trials["semi_supervised_loss_prediction/sslpm"].recipe for trials in (few, many))
    assert (few.left_out, few.unlabelled_batch) == (2, 128) and (many.left_out, many.unlabelled_batch) == (24, 1536)


def test_runs_what_is_missing_and_prints_the_table(tmp_path, capsys):
    arguments = ["--methods=random,saal", f"--workdir={tmp_path}", *QUICK]
    assert compare.main([*arguments, "--part=2/2"]) == 0
    assert sorted(path.parent.name for path in tmp_path.rglob("metrics.csv")) == ["saal"]
    assert compare.main(arguments) == 0
    captured = capsys.readouterr().out
    assert "supervised/saal is finished" in captured
    table = captured.split("recipe/method")[-1].splitlines()
    assert table[1].startswith("supervised/random  3") and table[2].startswith("supervised/saal")
    assert table[1].count("+-") == 2 and table[2].count("+-") == 4 and table[2].count(".") == 11  # two p among them
    assert "Fewer than five seeds" in table[-1]

    for name, kept in (("metrics.csv", 2), ("timings.csv", 2)):  # as if it had been killed after the first training
        file = tmp_path / "supervised" / "saal" / name
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:kept]))
    assert compare.main([*arguments, "--part=1/2"]) == 0
    captured = capsys.readouterr()
    assert "supervised/saal" not in captured.out.split("recipe/method")[-1] and not captured.err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--methods=sal", "there is no 'sal'"),
        ("--methods=saal:mod=max", "config.acquisition.mod: there is no such key"),
        ("--methods=saal:mode=max:name=entropy", "saal:mode=max:name=entropy names two methods"),
        ("--part=3/2", "--part=3/2: write which part of how many"),
        ("--config.cycle=3", "did you mean cycles?"),
    ],
)
def test_wrong_arguments_are_one_line(argument, message, capsys):
    assert compare.main(["--config=digits_saal", argument]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
