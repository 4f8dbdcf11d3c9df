"""The command, as its users call it: results, continuing, and one clear line for what cannot be done."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import schema
from experiments.run import main
from saal_jax import load_model, max_perturbed_loss
from tests.toys import RUN

RANDOM = "--config.acquisition.name=random"
TINY = ["--config.cycles=2", "--config.epochs=1", "--config.seeds=1,2", "--config.model.width=2"]
SMALL = [*RUN, *TINY]


def run(workdir, *arguments):
    return main([*arguments, f"--workdir={workdir}"])


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "small"
    assert run(workdir, *SMALL) == 0
    return workdir


def refused(capsys, workdir, *arguments):
    """The one line with which a command is refused, status 2, nothing left behind."""
    before = sorted(workdir.rglob("*")) if workdir.exists() else None
    capsys.readouterr()
    assert run(workdir, *arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert (sorted(workdir.rglob("*")) if workdir.exists() else None) == before
    return message


def test_files_of_a_run(finished):
    metrics = rows(finished / "metrics.csv")
    columns = ["seed", "cycle", "num_labelled", "test_accuracy", "balanced_accuracy", "test_loss", "train_loss"]
    assert list(metrics[0]) == columns
    expected = [(str(seed), str(cycle), str(20 + 10 * cycle)) for seed in (1, 2) for cycle in range(3)]
    assert [(row["seed"], row["cycle"], row["num_labelled"]) for row in metrics] == expected
    assert all(0 <= float(row["test_accuracy"]) <= 100 for row in metrics)

    selections = rows(finished / "selections.csv")
    assert list(selections[0]) == "seed cycle rank index example_id score pseudo_label label".split()
    assert len(selections) == 2 * 2 * 10
    first = rows(finished / "initial_labels.csv")
    for seed in ("1", "2"):
        bought = [row["example_id"] for row in selections + first if row["seed"] == seed]
        assert len(bought) == len(set(bought)) == 40
    assert all(len(rows(finished / name)) == 6 for name in ("timings.csv", "class_accuracies.csv"))
    balanced = rows(finished / "class_accuracies.csv")[0]
    assert float(balanced["balanced_accuracy"]) == pytest.approx(
        np.mean([float(balanced[f"class:{d}"]) for d in range(10)]), abs=1e-5
    )
    assert json.loads((finished / "config.json").read_text())["dataset"] == "digits[:10%]"
    assert [row["jax_enable_x64"] for row in rows(finished / "environments.csv")] == ["False"]
    assert (finished / "curve.png").stat().st_size > 10_000


def test_scores_in_the_table_are_those_of_the_library(finished):
    from saal_jax.data import load

    apply_fn, params = load_model(finished, seed=2)
    data = load("digits[:10%]")
    scores = max_perturbed_loss(apply_fn, params, data.train.images[:4])
    assert np.isfinite(scores).all()
    logits = apply_fn(params, data.test.images)
    accuracy = 100 * float((logits.argmax(1) == data.test.labels).mean())
    assert accuracy == pytest.approx(float(rows(finished / "metrics.csv")[-1]["test_accuracy"]), abs=1e-4)


def test_a_finished_run_says_so_and_changes_nothing(finished, capsys):
    before = {path: path.read_bytes() for path in finished.glob("*.csv")}
    assert run(finished, *SMALL) == 0
    assert "is finished" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in finished.glob("*.csv")} == before


@pytest.mark.parametrize("batch_size", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_more_cycles_and_seeds_continue(tmp_path, batch_size):
    less = [*SMALL, f"--config.batch_size={batch_size}", "--config.pool_subset=1000000000000"]
    more = [*less, "--config.cycles=3", "--config.seeds=1,2,5"]
    workdir = tmp_path / "more"
    assert run(workdir, *less) == 0
    assert run(workdir, *more) == 0
    assert run(tmp_path / "whole", *more) == 0
    for name in ("metrics.csv", "selections.csv", "initial_labels.csv", "class_accuracies.csv", "config.json"):
        assert (workdir / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("lost", ["metrics.csv", "selections.csv", "config.json", "environments.csv"])
def test_lost_or_spoilt_files_are_written_again_from_the_checkpoints(finished, tmp_path, lost):
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / lost).unlink()
    if lost in ("config.json", "environments.csv"):
        (workdir / lost).write_text("[]")
    assert run(workdir, *SMALL) == 0
    if lost != "environments.csv":
        assert (workdir / lost).read_bytes() == (finished / lost).read_bytes()
    assert run(workdir, *SMALL, "--config.cycles=3") == 0


def test_an_extension_that_achieved_nothing_can_be_taken_back(finished, tmp_path, capsys, monkeypatch):
    workdir = shutil.copytree(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("saal_jax.loop.make_training", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(workdir, *SMALL, "--config.cycles=4", "--config.seeds=1,2,9") == 130
    assert run(workdir, *SMALL) == 0
    assert "is finished" in capsys.readouterr().out


def test_checkpoints_of_another_seed_are_refused(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(workdir / "checkpoints" / "seed_1", workdir / "checkpoints" / "seed_9")
    assert "seed_9 holds checkpoints of seed 1" in refused(capsys, workdir, *SMALL, "--config.seeds=1,2,9")


def test_results_without_their_checkpoints_are_not_overwritten(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints")
    assert "no checkpoint to continue from" in refused(capsys, workdir, *SMALL)


def test_the_config_is_known_without_its_file(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    (workdir / "config.json").unlink()
    message = refused(capsys, workdir, *SMALL, "--config.cycles=3", "--config.model.width=3")
    assert "model.width (2 -> 3)" in message


def test_another_config_is_refused_with_the_differing_keys(finished, capsys):
    message = refused(capsys, finished, *SMALL, "--config.acquisition.rho=0.1", "--config.epochs=2")
    assert "acquisition.rho (0.05 -> 0.1)" in message and "epochs (1 -> 2)" in message and "cycles" in message
    assert "cycles (2 -> 1)" in refused(capsys, finished, *SMALL, "--config.cycles=1")
    assert "seeds" in refused(capsys, finished, *SMALL, "--config.seeds=1")


def test_dry_run_prints_the_cost_and_writes_nothing(tmp_path, capsys):
    assert run(tmp_path / "none", *SMALL, "--dry_run") == 0
    text = capsys.readouterr().out
    assert "40 labels per seed" in text and "18 training steps" in text and "about" in text
    assert "memory" in text and "disk" in text
    assert not (tmp_path / "none").exists()


def test_a_budget_beyond_the_pool_labels_everything(tmp_path, capsys):
    arguments = [*SMALL, "--config.seeds=1", "--config.query_size=100", "--config.cycles=9"]
    assert run(tmp_path / "all", *arguments) == 0
    assert "all 135 images of the pool are labelled" in capsys.readouterr().out
    assert rows(tmp_path / "all" / "metrics.csv")[-1]["num_labelled"] == "135"
    assert run(tmp_path / "all", *arguments) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=digits_sal"], "did you mean digits_saal?"),
        (["--config=digits_saal", "--config.acquisition.rh=1"], "did you mean rho?"),
        (["--config=digits_saal", "--config.acquisition.rho=-1"], "config.acquisition.rho=-1"),
        (["--config=digits_saal", "--config.dataset=cifar_10"], "did you mean cifar10"),
        (["--config=digits_saal", "--config.dataset=mnist"], "tfds build mnist"),
        (["--config=digits_saal", "--config.split=validation"], "the splits that exist are train"),
        (["--config=digits_saal", "--config.initial_labels=2000"], "initial_labels is 2000"),
        (["--config=digits_saal", "--config.mean=.1,.2,.3"], "config.mean has 3 values"),
        (["--config=digits_saal", "--config.dataset=nowhere.npz"], "nowhere.npz"),
        (["--config=digits_saal", "--config.dataset=~nobody-of-that-name/photos"], "no such home folder"),
        (["--config=digits_saal", "--config.image_size=1000000"], "give a smaller image_size"),
        (
            ["--config=digits_saal", "--config.model.name=resnet18", "--config.model.width=4096"],
            "config.model.width=4096",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, message, tmp_path, capsys):
    text = refused(capsys, tmp_path / "run", *arguments, f"--data_dir={tmp_path / 'data'}")
    assert message in text


def test_an_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--config=digits_saal", "--confg.cycles=3"])
    assert stopped.value.code == 2
    assert "unknown argument --confg.cycles=3" in capsys.readouterr().err


def test_a_diverged_model_stops_with_its_examples_and_keeps_the_checkpoint(tmp_path, capsys):
    arguments = [*SMALL, "--config.seeds=1", "--config.optimizer.learning_rate=1e30"]
    assert run(tmp_path / "run", *arguments) == 2
    message = capsys.readouterr().err
    assert "warning: the loss is not finite" in message
    assert "scores are not finite, of examples digits_" in message and "learning_rate" in message
    assert (tmp_path / "run" / "checkpoints" / "seed_1" / "0").is_dir()
    assert len(rows(tmp_path / "run" / "metrics.csv")) == 1


def test_images_of_ones_own_in_a_folder(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for brightness, name in ((40, "dark"), (200, "light")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 50, (10, 12, 3)) + brightness
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / split / name / f"{number}.png")
    arguments = [
        f"--config.dataset={tmp_path / 'images'}",
        "--config.initial_labels=4",
        "--config.query_size=3",
        *TINY,
        RANDOM,
    ]
    assert run(tmp_path / "run", "--config=digits_saal", *arguments) == 0
    assert rows(tmp_path / "run" / "selections.csv")[0]["example_id"].startswith("train/")

    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "images" / "train" / "dark" / "odd.png")
    assert run(tmp_path / "run2", "--config=digits_saal", *arguments) == 2
    assert not (tmp_path / "run2").exists()


def test_changed_images_are_noticed(tmp_path, capsys):
    generator = np.random.default_rng(0)
    arrays = {"train_images": generator.integers(0, 255, (30, 8, 8), np.uint8), "train_labels": np.arange(30) % 3}
    arrays |= {"test_images": arrays["train_images"][:9] // 2, "test_labels": np.arange(9) % 3}
    np.savez(tmp_path / "own.npz", **arrays)
    own = [f"--config.dataset={tmp_path / 'own.npz'}", "--config.initial_labels=3", RANDOM]
    arguments = ["--config=digits_saal", *own, *TINY]
    assert run(tmp_path / "run", *arguments) == 0
    arrays["train_images"][0, 0, 0] ^= 1
    np.savez(tmp_path / "own.npz", **arrays)
    message = refused(capsys, tmp_path / "run", *arguments, "--config.cycles=3")
    assert "was begun on other images" in message and "older version" not in message


REAL = Path(__file__).parents[3] / "shared" / "data" / "tfds"


@pytest.mark.slow  # a minute of compiling
@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not beside the project")
def test_the_published_config_shrunk_to_one_step(tmp_path, capsys):
    shrunk = [
        "--config.split=train[:1%]",
        "--config.test_split=test[:1%]",
        "--config.model.width=1",
        "--config.epochs=1",
        "--config.seeds=123",
    ]
    shrunk += ["--config.cycles=1", "--config.pool_subset=20", "--config.initial_labels=10"]
    assert run(tmp_path / "run", "--config=cifar10_saal", f"--data_dir={REAL}", *shrunk) == 0
    assert "3 training steps" in capsys.readouterr().out
    assert rows(tmp_path / "run" / "metrics.csv")[-1]["num_labelled"] == "20"


def test_another_acquisition_than_the_configs_own_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = [*SMALL, "--config.seeds=1", "--config.cycles=1"]
    assert main(tiny) == main([*tiny, "--config.acquisition.name=random"]) == 0
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["digits_saal", "digits_saal_random"]


def test_help_lists_the_configs(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f"{name} " in text and schema.summary(name) in text for name in schema.names())


def test_two_processes_do_not_share_a_workdir(tmp_path, capsys):
    hold = "with lock(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    program = f"import sys, pathlib; from experiments.lock import lock\n{hold}"
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "held\n"
        message = refused(capsys, tmp_path / "run", *SMALL)
        assert f"in use by process {owner.pid}" in message
        owner.kill()
    assert run(tmp_path / "run", *SMALL, "--config.seeds=1", "--config.cycles=1") == 0  # no stale lock
