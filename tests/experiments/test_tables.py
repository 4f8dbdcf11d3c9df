"""Tables without a schema: nothing measured is lost, and nothing stands under another's heading."""

import csv
import os
import shutil
import subprocess
import sys

import matplotlib.legend
import numpy as np
import pytest

from experiments import report
from experiments.apart import where_apart
from experiments.run import main
from experiments.tables import write_tables
from saal_jax import InputError, checkpoint
from tests.toys import RUN

KEYS = [*RUN, "--config.acquisition.name=random", "--config.epochs=1"]


def run(workdir, *keys):
    return main([*KEYS, f"--workdir={workdir}", *(f"--config.{key}" for key in keys)])


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Config:
    seeds = (1,)

    def model_dump(self, mode):
        return {}


def test_a_new_metric_is_a_column_and_empty_where_it_was_not_measured(tmp_path):
    def cycle(metrics, query_metrics):
        queried = {"index": [0], "example_id": ["a"], "label": [0], "score": [1.0], "pseudo_label": [0]}
        seconds = dict.fromkeys(("query", "train", "test"), 0.0)
        measured = {"metrics": metrics, "query_metrics": query_metrics}
        return {"asked": queried, "seconds": seconds, "peak_bytes": seconds, "digests": {}, **measured}

    history = [
        cycle({"num_labelled": 1, "mean_error": 0.5}, {}),
        cycle({"num_labelled": 2, "mean_error": 0.25, "other": 3}, {"a": 1.0}),
        cycle({"num_labelled": 3}, {"b": 2.0}),
    ]
    write_tables(tmp_path, Config(), {1: {"history": history, "class_names": ["x"], "class_counts": [3]}})
    assert rows(tmp_path / "metrics.csv") == [
        {"seed": "1", "cycle": "0", "num_labelled": "1", "mean_error": "0.500000", "other": ""},
        {"seed": "1", "cycle": "1", "num_labelled": "2", "mean_error": "0.250000", "other": "3"},
        {"seed": "1", "cycle": "2", "num_labelled": "3", "mean_error": "", "other": ""},
    ]
    asked = [(row["cycle"], row["a"], row["b"]) for row in rows(tmp_path / "query_metrics.csv")]
    assert asked == [("1", "1.000000", ""), ("2", "", "2.000000")]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("scored") / "run"
    assert run(workdir, "seeds=1,2", "cycles=2", "acquisition.name=saal", "acquisition.mode=max") == 0
    return workdir


def test_quantiles_of_all_scores_and_counts_by_class(scored):
    """Where the largest scores are chosen, the largest of all is that of the first choice."""
    chosen = {(row["seed"], row["cycle"]): row for row in rows(scored / "selections.csv") if row["rank"] == "0"}
    for row in rows(scored / "query_metrics.csv"):
        names = ["score_min", "score_q25", "score_median", "score_q75", "score_max"]
        values = [float(row[name]) for name in names]
        assert values == sorted(values)
        assert values[-1] == pytest.approx(float(chosen[row["seed"], row["cycle"]]["score"]), abs=1e-6)
    labels = [row["label"] for row in rows(scored / "initial_labels.csv") if row["seed"] == "2"]
    labels += [row["label"] for row in rows(scored / "selections.csv") if row["seed"] == "2"]
    *_, labelled, left = [row for row in rows(scored / "class_counts.csv") if row["seed"] == "2"]
    assert (labelled["of"], left["of"]) == ("labelled", "pool")
    for digit in range(10):
        assert int(labelled[f"class:{digit}"]) == labels.count(str(digit))
    assert sum(int(left[f"class:{digit}"]) for digit in range(10)) == 135 - 40


def test_digests_are_of_what_the_checkpoint_holds(scored):
    _, tree, _ = checkpoint.load_newest(scored / "checkpoints" / "seed_1")
    of_last = [row for row in rows(scored / "digests.csv") if (row["seed"], row["cycle"]) == ("1", "2")]
    last = {row["array"]: row["sha256"] for row in of_last}
    assert last == checkpoint.digests({"labelled": tree["labelled"], "weights": tree["train"]["weights"]})
    assert {"labelled", "weights.params.Conv_0.kernel"} <= last.keys()


def test_where_two_runs_part(scored, tmp_path, capsys):
    assert run(tmp_path / "same", "seeds=1", "cycles=2", "acquisition.name=saal", "acquisition.mode=max") == 0
    assert run(tmp_path / "other", "seeds=1,2", "cycles=2") == 0
    capsys.readouterr()
    assert report.main(["--where_apart", str(scored), str(tmp_path / "same")]) == 0
    assert capsys.readouterr().out == "seed 1: the same to the bit in the 3 cycles that both have\n"
    lines = where_apart(scored, tmp_path / "other").splitlines()
    assert [line[: line.index(", in")] for line in lines] == [
        f"seed {seed}: different from cycle 1 on" for seed in (1, 2)
    ]
    assert "in labelled, weights.params." in lines[0]
    assert report.main(["--where_apart", str(scored)]) == 2
    with pytest.raises(InputError, match="has no readable digests.csv"):
        where_apart(scored, tmp_path)


def test_seconds_and_memory_of_each_phase(scored):
    for row in rows(scored / "timings.csv"):
        for phase in ("query", "train", "test"):
            assert float(row[f"{phase}_peak_mib"]) > 0 and float(row[f"{phase}_seconds"]) >= 0


@pytest.mark.slow  # by the system's count of memory
def test_memory_of_each_phase_is_in_mebibytes(scored):
    for row in rows(scored / "timings.csv"):
        assert all(50 < float(row[f"{phase}_peak_mib"]) < 50_000 for phase in ("query", "train", "test"))


def test_pipes_in_place_of_tables_are_not_waited_for(scored, tmp_path, capsys):
    workdir = shutil.copytree(scored, tmp_path / "run")
    for name in ("config.json", "environments.csv", "timings.csv", "metrics.csv"):
        (workdir / name).unlink()
        os.mkfifo(workdir / name)
    os.mkfifo(workdir / "metrics.csv.new")
    os.mkfifo(workdir / "environment.json")
    assert report.main([str(workdir), f"--picture={tmp_path / 'a.png'}"]) == 2
    assert "has no metrics.csv" in capsys.readouterr().err
    assert run(workdir, "seeds=1,2", "cycles=2", "acquisition.name=saal", "acquisition.mode=max") == 0
    assert rows(workdir / "metrics.csv") == rows(scored / "metrics.csv")


@pytest.mark.parametrize("name", ["w$\\foo$", "_hidden"])
def test_names_that_are_no_formulas(scored, tmp_path, name, monkeypatch):
    workdir, labels = shutil.copytree(scored, tmp_path / name), []
    init = matplotlib.legend.Legend.__init__

    def spy(self, parent, handles, texts, **options):
        labels.extend(texts)
        init(self, parent, handles, texts, **options)

    monkeypatch.setattr("matplotlib.legend.Legend.__init__", spy)
    assert report.main([str(workdir), f"--picture={tmp_path / 'a.png'}"]) == 0
    assert name in labels[0].replace("\\$", "$")


@pytest.mark.slow
def test_letters_that_the_locale_does_not_have(tmp_path):
    images = np.zeros((12, 8, 8), np.uint8)
    arrays = {"train_images": images, "train_labels": np.arange(12) % 2, "test_images": images + 1}
    np.savez(tmp_path / "a.npz", **arrays, test_labels=np.arange(12) % 2, class_names=["caf\u00e9", "th\u00e9"])
    keys = [f"dataset={tmp_path / 'a.npz'}", "seeds=1", "cycles=1", "initial_labels=4", "query_size=2"]
    words = [*KEYS, f"--workdir={tmp_path / 'run'}", *(f"--config.{key}" for key in keys)]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "experiments.run", *words]
    ended = subprocess.run(command, env=os.environ | plain, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "class:caf\u00e9" in (tmp_path / "run" / "class_accuracies.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "variable", ["JAX_ENABLE_X64", pytest.param("JAX_DEFAULT_MATMUL_PRECISION", marks=pytest.mark.slow)]
)
def test_a_variable_that_jax_does_not_accept_is_one_line(variable, tmp_path):
    command = [sys.executable, "-m", "experiments.report", str(tmp_path)]
    ended = subprocess.run(command, env=os.environ | {variable: "foo"}, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: ") and "foo" in ended.stderr
