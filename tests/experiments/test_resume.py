"""What a run may be continued with, and how one of an older version goes on."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.run import main
from saal_jax import checkpoint
from saal_jax.data import load

KEYS = "dataset=digits[:10%] seeds=1 cycles=1 epochs=1 model.width=2".split()


def arguments(*keys):
    return [f"--config.{key}" for key in [*KEYS, *keys]]


def run(workdir, *keys):
    return main(["--config=digits_saal", "--config.acquisition.name=random", f"--workdir={workdir}", *arguments(*keys)])


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tables(workdir):
    return [(workdir / name).read_bytes() for name in ("selections.csv", "initial_labels.csv", "metrics.csv")]


def as_an_older_version_wrote(workdir, **changes):
    """Writes the newest checkpoint as before the environment, and the cycle, were part of its record."""
    folder = workdir / "checkpoints" / "seed_1"
    cycle, tree, record = checkpoint.load_newest(folder)
    del record["environment"]
    shutil.rmtree(folder)
    checkpoint.save(folder, cycle, tree, record | changes)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("begun") / "run"
    assert run(workdir) == 0
    return workdir


def again(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    ("flag", "value", "change"),
    [
        ("jax_threefry_partitionable", False, "jax_threefry_partitionable True -> False"),
        ("jax_random_seed_offset", 3, "jax_random_seed_offset 0 -> 3"),
    ],
)
def test_flags_that_change_draws_are_refused_by_name(
    begun, tmp_path, capsys, monkeypatch, flag, value, change, recorded
):
    workdir = again(begun, tmp_path)
    if not recorded:
        as_an_older_version_wrote(workdir)
    before = tables(workdir)
    monkeypatch.setattr(f"jax._src.config.Config.{flag}", value)
    assert run(workdir, "cycles=2") == 2
    assert f"was begun under other flags of JAX: {change}; set them back" in capsys.readouterr().err
    assert tables(workdir) == before


CONTINUE = """
import sys
from experiments.run import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_generator_does_not_depend_on_jaxs_default(begun, tmp_path):
    """Continued under another default generator, and more exact products: the same choice, and a warning by name."""
    workdir = again(begun, tmp_path)
    assert run(workdir, "cycles=2") == 0
    other = shutil.copytree(begun, tmp_path / "other")
    words = ["--config=digits_saal", "--config.acquisition.name=random", f"--workdir={other}", *arguments("cycles=2")]
    flags = {"JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    ended = subprocess.run(
        [sys.executable, "-c", CONTINUE, *words], env=os.environ | flags, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "warning: matmul_precision default -> highest since the last cycle" in ended.stderr
    assert tables(other)[:2] == tables(workdir)[:2]
    assert [row["matmul_precision"] for row in rows(other / "environments.csv")] == ["default", "highest"]


def test_a_key_of_another_generator_cannot_be_continued(begun, tmp_path, capsys):
    workdir = again(begun, tmp_path)
    folder = workdir / "checkpoints" / "seed_1"
    cycle, tree, record = checkpoint.load_newest(folder)
    checkpoint.save(folder, cycle, {**tree, "key": np.zeros(4, np.uint32)}, record)
    assert run(workdir, "cycles=2") == 2
    assert "not of threefry2x32" in capsys.readouterr().err


def test_an_older_workdir_goes_on(begun, tmp_path):
    workdir, whole = again(begun, tmp_path), tmp_path / "whole"
    as_an_older_version_wrote(workdir)
    (workdir / "environments.csv").unlink()
    (workdir / "environment.json").write_text(json.dumps({"python": "3.0", "jax": "0.1"}))
    assert run(workdir, "cycles=2") == 0
    assert run(whole, "cycles=2") == 0
    assert tables(workdir) == tables(whole)
    assert [row["python"] == "3.0" for row in rows(workdir / "environments.csv")] == [True, False]
    assert not (workdir / "environment.json").exists()


def test_a_copy_in_an_older_workdir_is_not_another_cycle(begun, tmp_path, capsys):
    workdir = again(begun, tmp_path)
    as_an_older_version_wrote(workdir)
    folder = workdir / "checkpoints" / "seed_1"
    _, tree, record = checkpoint.load_newest(folder)
    checkpoint.save(folder, 2, tree, record)
    assert run(workdir, "cycles=2") == 2
    assert f"{folder}/2 is a copy of another cycle's checkpoint" in capsys.readouterr().err


IMBALANCE = ["dataset=digits", "imbalance.name=alternating", "imbalance.few=30", "imbalance.many=90"]


def assert_index_counts_in_the_data_set(workdir):
    train = load("digits").train
    for row in rows(workdir / "selections.csv") + rows(workdir / "initial_labels.csv"):
        index = int(row["index"])
        assert (train.ids[index], train.labels[index]) == (row["example_id"], int(row["label"]))


def test_index_counts_in_the_data_set_whatever_was_cut(tmp_path):
    workdir = tmp_path / "run"
    assert run(workdir, *IMBALANCE) == 0
    assert_index_counts_in_the_data_set(workdir)
    assert max(int(row["index"]) for row in rows(workdir / "initial_labels.csv")) >= 600  # as many were left

    folder = workdir / "checkpoints" / "seed_1"
    history = checkpoint.load_newest(folder)[2]["history"]
    for cycle in history:  # the first versions counted in what was left
        cycle["queried"]["index"] = [0] * len(cycle["queried"]["index"])
    as_an_older_version_wrote(workdir, history=history)
    assert run(workdir, *IMBALANCE) == 0  # finished
    assert_index_counts_in_the_data_set(workdir)
    assert run(workdir, *IMBALANCE, "cycles=2") == 0
    assert_index_counts_in_the_data_set(workdir)


@pytest.fixture
def npz(tmp_path):
    """Writes `own.npz`, with class names or other changes."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (40, 8, 8), np.uint8)
    arrays = {"train_images": images, "train_labels": np.arange(40) % 3}
    arrays |= {"test_images": images[:12] // 2, "test_labels": np.arange(12) % 3}

    def write(path=tmp_path / "own.npz", **changes):
        np.savez(path, **arrays | changes)
        return [f"dataset={path}", "initial_labels=6", "query_size=4"]

    return write


def test_class_names_that_change_are_refused_by_name(npz, tmp_path, capsys):
    workdir = tmp_path / "run"
    chance = "initial_selection=random"  # a class more need not be among the first labels
    assert run(workdir, *npz(class_names=list("xyz")), chance) == 0
    before = (workdir / "class_accuracies.csv").read_bytes()
    for names in ("zxy", "xyzw"):
        assert run(workdir, *npz(class_names=list(names)), chance, "cycles=2") == 2
        expected = f"was begun with other class names: x, y, z -> {', '.join(names)}; restore them"
        assert expected in capsys.readouterr().err
    assert (workdir / "class_accuracies.csv").read_bytes() == before


def test_a_class_may_be_called_as_a_column_is(npz, tmp_path):
    assert run(tmp_path / "run", *npz(class_names=["cycle", "seed", "balanced_accuracy"])) == 0
    table = rows(tmp_path / "run" / "class_accuracies.csv")
    columns = ["seed", "cycle", "balanced_accuracy", "class:cycle", "class:seed", "class:balanced_accuracy"]
    assert list(table[0]) == columns
    assert [(row["seed"], row["cycle"]) for row in table] == [("1", "0"), ("1", "1")]


def test_data_that_moved_are_the_same_data(npz, tmp_path, capsys):
    workdir = tmp_path / "run"
    keys = npz()
    assert run(workdir, *keys) == 0
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "moved.npz"
    (tmp_path / "own.npz").rename(moved)
    keys[0] = f"dataset={moved}[:40]"
    assert run(workdir, *keys) == 0
    assert "is finished" in capsys.readouterr().out
    assert run(workdir, *keys, "cycles=2") == 0
    assert json.loads((workdir / "config.json").read_text())["dataset"] == f"{moved}[:40]"
    assert checkpoint.load_newest(workdir / "checkpoints" / "seed_1")[2]["config"]["dataset"] == f"{moved}[:40]"
    keys[0] = f"dataset={moved}[:39]"
    for cycles in ("cycles=2", "cycles=3"):  # finished or not
        assert run(workdir, *keys, cycles) == 2
        assert "was begun on other images" in capsys.readouterr().err


def test_why_an_older_workdir_may_see_other_images(npz, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert run(workdir, *npz()) == 0
    as_an_older_version_wrote(workdir, data="another")
    assert run(workdir, *npz(), "cycles=2") == 2
    assert "an older version wrote it, which dropped transparency" in capsys.readouterr().err
