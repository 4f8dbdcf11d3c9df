"""Runs whose labels are boxes or pixels: tables, continuing, pools on disk, and what is refused by name."""

import csv
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import saal_jax
from experiments import compare, report, schema
from experiments.run import main
from saal_jax import data
from saal_jax.boxes import PADDING
from saal_jax.tasks.detection import loss_fn

SMALL = [
    "--config.seeds=1",
    "--config.cycles=2",
    "--config.steps=2",
    "--config.batch_size=16",
    "--config.model.width=2",
]
SMALL += ["--config.model.depth=2"]
BOXES = ["--config=digits_detection_saal", "--config.dataset=digits_detection[:6%]", *SMALL]
BOXES += ["--config.test_split=test[:5%]", "--config.initial_labels=4", "--config.query_size=3"]
PIXELS = ["--config=shapes_segmentation_saal", "--config.dataset=shapes[:3%]", *SMALL]
PIXELS += ["--config.test_split=test[:3%]", "--config.source_split=source[:5%]", "--config.query_size=5"]
PIXELS += ["--config.source_test_split=source_test[:3%]", "--config.task.rows=2"]
RUNS = {"boxes": BOXES, "pixels": PIXELS}
TABLES = {"boxes": ["class_ap50.csv"], "pixels": ["class_iou.csv", "source_class_iou.csv"]}
every_kind = pytest.mark.parametrize("kind", RUNS)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def same(first, second, kind):
    names = ["metrics.csv", "selections.csv", "initial_labels.csv", "digests.csv", *TABLES[kind]]
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.fixture(scope="module", params=RUNS)
def finished(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / request.param
    assert main([*RUNS[request.param], f"--workdir={workdir}"]) == 0
    return request.param, workdir


def test_what_a_run_writes(finished):
    kind, workdir = finished
    metrics, chosen = rows(workdir / "metrics.csv"), rows(workdir / "selections.csv")
    if kind == "boxes":
        assert [int(row["num_labelled"]) for row in metrics] == [4, 7, 10]
        bought = {row["example_id"] for row in rows(workdir / "initial_labels.csv")}
        pool = data.load_boxes("digits_detection[:6%]").train
        for cycle in range(3):
            bought |= {row["example_id"] for row in chosen if int(row["cycle"]) == cycle}
            there = pool.labels.classes[np.isin(pool.ids, list(bought))]
            assert int(metrics[cycle]["num_boxes"]) == (there != PADDING).sum()
        assert {"test_map50", "test_map"} <= metrics[0].keys() and "region" not in chosen[0]
    else:
        assert [int(row["num_labelled"]) for row in metrics] == [0, 5, 10]
        assert [int(row["num_pixels"]) for row in metrics] == [5 * cycle * 16 * 8 for cycle in range(3)]
        assert all(row["num_void_pixels"] == "0" for row in metrics)  # its masks have none
        assert {int(row["region"]) for row in chosen} <= set(range(8))
        assert len({(row["example_id"], row["region"]) for row in chosen}) == 10
        assert {"test_miou", "pixel_accuracy", "source_miou"} <= metrics[0].keys()
    assert all(row["label"] == "" and float(row["score"]) > 0 for row in chosen)
    assert not rows(workdir / "class_counts.csv")
    for table in TABLES[kind]:
        assert len(rows(workdir / table)) == 3
    for picture in ("queried.png", "curve.png"):
        assert (workdir / picture).read_bytes()[:4] == b"\x89PNG"


def test_a_run_continues_to_the_same_bytes(finished, tmp_path):
    kind, whole = finished
    arguments = [*RUNS[kind], f"--workdir={tmp_path / 'parts'}"]
    assert main([*arguments, "--config.cycles=1"]) == 0 and main(arguments) == 0
    assert same(whole, tmp_path / "parts", kind)


def test_the_metric_of_the_task_is_reported_against_labels_or_what_they_cost(finished, tmp_path, capsys):
    kind, workdir = finished
    picture = f"--picture={tmp_path / 'a.png'}"
    assert report.main([str(workdir), picture]) == 0
    headline, cost = {"boxes": ("map50", "boxes"), "pixels": ("miou", "pixels")}[kind]
    assert f"final {headline}" in capsys.readouterr().out
    assert report.main([str(workdir), picture, f"--against=num_{cost}"]) == 0
    assert f" {cost} " in capsys.readouterr().out.splitlines()[0]
    assert report.main([str(workdir), picture, "--against=num_hours"]) == 2
    assert "no such column" in capsys.readouterr().err


def test_curves_over_what_differs_by_seed_are_laid_on_one_grid():
    one = {1: (np.array([10, 30]), np.array([0.0, 20.0])), 2: (np.array([20, 40]), np.array([10.0, 30.0]))}
    (curves,) = report.on_one_grid({"run": one}, points=3).values()
    for axis, values in curves.values():
        np.testing.assert_array_equal(axis, [20, 25, 30])
        np.testing.assert_allclose(np.diff(values), 5)
    assert curves[1][1][0] == 10 and curves[2][1][-1] == 20
    with pytest.raises(saal_jax.InputError, match="no range in common"):
        report.on_one_grid({"run": {1: (np.array([10, 20]), np.zeros(2)), 2: (np.array([30, 40]), np.zeros(2))}})


def test_runs_of_two_tasks_are_not_compared(tmp_path, capsys):
    for name, task in (("one", "detection"), ("two", "segmentation")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"task": {{"name": "{task}"}}}}')
        (tmp_path / name / "metrics.csv").write_text("seed,cycle,num_labelled,test_map50,test_miou\n1,0,5,1.0,2.0\n")
    assert report.main([str(tmp_path / "one"), str(tmp_path / "two"), f"--picture={tmp_path / 'a.png'}"]) == 2
    assert "measure different things (test_map50, test_miou)" in capsys.readouterr().err


def test_the_trained_model_is_loaded(finished):
    kind, workdir = finished
    apply_fn, params = saal_jax.load_model(workdir)
    if kind == "boxes":
        test = data.load_boxes("digits_detection", test_split="test[:5%]").test
        outputs = apply_fn(params, test.images[:4])
        assert outputs.heat.shape == (4, 10, 10, 10) and np.isfinite(jax.vmap(loss_fn)(outputs, test.labels._replace(
            **{name: array[:4] for name, array in test.labels._asdict().items()}
        ))).all()  # fmt: skip
    else:
        images = data.load_masks("shapes", test_split="test[:3%]").test.images
        measured = apply_fn(params, images).argmax(-1) == data.load_masks("shapes", test_split="test[:3%]").test.labels
        last = rows(workdir / "metrics.csv")[-1]
        np.testing.assert_allclose(100 * measured.mean(), float(last["pixel_accuracy"]), atol=1e-4)


@pytest.mark.slow
def test_the_same_on_disk_and_on_eight_devices(finished, tmp_path):
    kind, whole = finished
    assert main([*RUNS[kind], f"--workdir={tmp_path / 'disk'}", "--config.max_resident=1000"]) == 0
    assert same(whole, tmp_path / "disk", kind)
    eight = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", "experiments.run", *RUNS[kind], f"--workdir={tmp_path / 'eight'}"]
    subprocess.run(command, env=eight, check=True)
    for ours, theirs in zip(rows(whole / "metrics.csv"), rows(tmp_path / "eight" / "metrics.csv"), strict=True):
        np.testing.assert_allclose(float(theirs["train_loss"]), float(ours["train_loss"]), rtol=1e-4)
    ours, theirs = (rows(path / "selections.csv") for path in (whole, tmp_path / "eight"))
    assert [row["example_id"] for row in ours] == [row["example_id"] for row in theirs]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@every_kind
def test_every_method_that_a_task_knows_runs(kind, precision, tmp_path):
    config = schema.override(schema.load(RUNS[kind][0].removeprefix("--config=")), RUNS[kind][1:])
    for name, trial in compare.trials_of(config, compare._possible(config)).items():
        method = [f"--config.{section}={getattr(trial, section).name}" for section in ("recipe", "acquisition")]
        where = tmp_path / name.replace("/", "_")
        assert (
            main([*RUNS[kind], *method, f"--config.precision={precision}", "--config.cycles=1", f"--workdir={where}"])
            == 0
        )


def refused(capsys, tmp_path, *arguments):
    assert main([*arguments, f"--workdir={tmp_path / 'refused'}"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert not (tmp_path / "refused").exists()
    return message


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("boxes", "acquisition=badge", "acquisition badge needs logits"),
        ("boxes", "acquisition=ripu", "acquisition ripu needs pixels"),
        ("boxes", "recipe=snapshots", "recipe snapshots compares logits of students"),
        ("boxes", "recipe=semi_supervised_loss_prediction", "needs one class for each image"),
        ("boxes", "initial_selection=class_balanced", "initial_selection.name=class_balanced looks at the class"),
        ("boxes", "imbalance=alternating", "imbalance.name=alternating looks at the class"),
        ("boxes", "model=small_cnn", "model small_cnn does not fit task detection"),
        ("boxes", "acquisition.labels=inverse_pseudo", "no answer of this task is the least likely"),
        ("boxes", "task.max_boxes=1", "has 2 boxes, but max_boxes=1"),
        ("boxes", "initial_labels=0", "without a source there must be labels"),
        ("pixels", "acquisition=core_set", "acquisition core_set needs features, which is of whole images"),
        ("pixels", "acquisition=gradient_norm", "gradient_norm is of whole images"),
        ("pixels", "task.rows=5", "cannot be cut into 5 rows and 4 columns"),
        ("pixels", "source=digits_detection", "digits_detection"),
        ("pixels", "source_split=train[:40%]", "an image of the source is also one of the pool"),
        ("pixels", "source_split=test[2%:50%]", "an image of the source is also one of the test images"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(kind, change, message, tmp_path, capsys):
    arguments = [argument for argument in RUNS[kind] if change != "model=small_cnn" or ".model." not in argument]
    assert message in refused(capsys, tmp_path, *arguments, f"--config.{change}")


def test_what_a_data_set_was_read_for_is_said(tmp_path, capsys):
    assert "(read for config.task.name=detection)" in refused(
        capsys, tmp_path, "--config=digits_saal", "--config.task=detection"
    )


def test_the_estimate_counts_the_steps_of_a_source(tmp_path, capsys):
    """16 images a batch, 8 of the source's 20: three steps in each of four epochs, before anything is bought."""
    arguments = [
        *PIXELS,
        "--config.epochs=4",
        "--config.steps=none",
        "--config.cycles=1",
        f"--workdir={tmp_path / 'run'}",
    ]
    assert main([*arguments, "--dry_run"]) == 0
    assert f"to do: {4 * 3 + 4} training steps" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_said_how_to_get(tmp_path, capsys):
    line = refused(capsys, tmp_path, "--config=bccd_saal", f"--data_dir={tmp_path}")
    assert f"bccd is not in {tmp_path}: get the folder BCCD of https://" in line
    assert "with annotations_{train,test}.json and images in {train,test}/" in line
