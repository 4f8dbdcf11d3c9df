"""The figures of a report, by hand."""

import json

import matplotlib.image
import numpy as np
import pytest

from experiments import report
from saal_jax import InputError


def write_run(folder, accuracies, config=None):
    folder.mkdir()
    rows = [
        f"{seed},{cycle},{20 + 10 * cycle},{accuracy},1.0,1.0"
        for seed, curve in accuracies.items()
        for cycle, accuracy in enumerate(curve)
    ]
    header = "seed,cycle,num_labelled,test_accuracy,test_loss,train_loss"
    (folder / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "config.json").write_text(json.dumps(config or {"dataset": "digits", "model": {"name": "small_cnn"}}))
    return folder


def test_area_under_the_curve():
    assert report.area(np.array([20, 30, 50]), np.array([10.0, 20.0, 40.0])) == (150 + 600) / 30
    assert report.area(np.array([20]), np.array([33.0])) == 33.0


def test_table_and_picture(tmp_path, capsys, monkeypatch):
    one = write_run(tmp_path / "saal", {1: [50, 60, 90], 2: [50, 60, 92], 3: [50, 60, 94]})
    two = write_run(tmp_path / "random", {1: [50, 60, 80], 2: [50, 60, 84], 3: [50, 60, 85]})
    picture = tmp_path / "new" / "curves.png"
    monkeypatch.setattr("sys.argv", ["report", str(one), str(two), f"--picture={picture}"])
    report.main()
    text = capsys.readouterr().out
    assert "92.00 +- 2.00" in text and "83.00 +- 2.65" in text
    assert "saal - random" in text and "+9.00 +- 2.48" in text  # differences 10, 8, 9: t(.975, 2) = 4.303, sem = .577
    assert "Fewer than five seeds" in text and str(picture) in text
    assert matplotlib.image.imread(picture).shape[2] == 4


def test_the_released_curves():
    adam, sam = (
        {"dataset": "cifar10", "model": {"name": "resnet18"}, "optimizer": {"name": name}} for name in ("adam", "sam")
    )
    finals = {name: report.figures(report.released_curves(config)) for name, config in (("adam", adam), ("sam", sam))}
    assert all(set(figures) == {123, 456, 789} for figures in finals.values())
    for name, final, area in (("adam", 52.7, 40.2), ("sam", 56.5, 45.3)):
        values = np.array(list(finals[name].values()))
        assert values.mean(0)[:2] == pytest.approx([final, area], abs=0.06)
    assert report.released_curves(sam | {"dataset": "digits"}) == {}


def test_unfinished_runs_are_compared_at_the_labels_that_all_have(tmp_path):
    one = report.read_curves(write_run(tmp_path / "one", {1: [50, 60, 90], 2: [50, 70]}))
    two = report.read_curves(write_run(tmp_path / "two", {1: [50, 61, 62], 2: [50, 71, 99]}))
    text = report.table({"one": one, "two": two})
    assert "65.00 +- 7.07" in text and "66.00 +- 7.07" in text and "-1.00 +- 0.00" in text
    assert "Compared from 20 to 30 labels, which every seed has; there are 20 to 40." in text


def test_runs_of_other_steps_are_compared_where_both_have_been():
    fine = {1: (np.array([20, 25, 30, 35, 40, 45]), np.array([1.0, 2, 3, 4, 5, 6]))}
    coarse = {1: (np.array([30, 40, 50]), np.array([10.0, 20, 30]))}
    text = report.table({"fine": fine, "coarse": coarse})
    rows = {line.split()[0]: line.split()[1:5] for line in text.splitlines()[1:3]}
    assert rows == {"fine": ["40", "1", "5.00", "4.00"], "coarse": ["40", "1", "20.00", "15.00"]}
    assert "Compared from 30 to 40 labels, which every seed has; there are 20 to 50." in text
    with pytest.raises(InputError, match="the runs have no number of labels in common"):
        report.table({"fine": fine, "odd": {1: (np.array([21, 31]), np.array([1.0, 2]))}})


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    runs = [write_run(tmp_path / folder / "run", {1: [50, value]}) for folder, value in (("a", 60), ("b", 70))]
    assert report.main([*map(str, runs), f"--picture={tmp_path / 'curves.png'}"]) == 0
    text = capsys.readouterr().out
    assert str(runs[0]) in text and str(runs[1]) in text and "60.00" in text and "70.00" in text


@pytest.mark.parametrize(
    ("accuracies", "picture", "message"),
    [
        (None, "a.png", "has no metrics.csv"),
        ({}, "a.png", "has no finished cycle yet"),
        ({1: [50, "?"]}, "a.png", "is not the table of a run"),
        ({1: [50, 60]}, "a.foo", "name a file that ends in .png"),
    ],
)
def test_what_cannot_be_reported_is_one_line(tmp_path, capsys, accuracies, picture, message):
    run = tmp_path / "run" if accuracies is None else write_run(tmp_path / "run", accuracies)
    assert report.main([str(run), f"--picture={tmp_path / picture}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
