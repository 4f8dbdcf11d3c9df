"""What a run may be continued with."""

import csv
import json
import os
import shutil
import subprocess
import sys

import chex
import numpy as np
import pytest

from experiments.run import main
from saal_jax import InputError, checkpoint, load_model
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


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("begun") / "run"
    assert run(workdir) == 0
    return workdir


def again(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


@pytest.mark.parametrize(
    ("flag", "value", "change"),
    [
        ("jax_threefry_partitionable", False, "jax_threefry_partitionable True -> False"),
        ("jax_random_seed_offset", 3, "jax_random_seed_offset 0 -> 3"),
    ],
)
def test_flags_that_change_draws_are_refused_by_name(begun, tmp_path, capsys, monkeypatch, flag, value, change):
    workdir = again(begun, tmp_path)
    before = tables(workdir)
    monkeypatch.setattr(f"jax._src.config.Config.{flag}", value)
    assert run(workdir, "cycles=2") == 2
    assert f"was begun under other flags of JAX: {change}; set them back" in capsys.readouterr().err
    assert tables(workdir) == before


def test_a_finished_run_reads_no_data(begun, tmp_path, capsys, monkeypatch):
    def build(*arguments):
        raise InputError("the data are on another machine")

    monkeypatch.setattr("experiments.run.build", build)
    assert run(again(begun, tmp_path)) == 0
    assert "is finished" in capsys.readouterr().out
    assert run(again(begun, tmp_path / "elsewhere"), "max_resident=1") == 2  # are these the same data?
    assert "the data are on another machine" in capsys.readouterr().err


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


@pytest.mark.parametrize(("draws", "version"), [({}, "an earlier"), ({"draws": 99}, "a later")])
def test_a_version_that_draws_otherwise_is_refused_and_its_model_still_loads(begun, tmp_path, capsys, draws, version):
    workdir = again(begun, tmp_path)
    folder = workdir / "checkpoints" / "seed_1"
    cycle, tree, record = checkpoint.load_newest(folder)
    del record["draws"], record["environment"]  # as the first versions wrote it
    shutil.rmtree(folder)
    checkpoint.save(folder, cycle, tree, record | draws)
    before = tables(workdir)
    for cycles in ("cycles=1", "cycles=2"):  # finished or not
        assert run(workdir, cycles) == 2
        assert f"{workdir} was begun by {version} version of saal_jax, which draws otherwise" in capsys.readouterr().err
    assert tables(workdir) == before
    chex.assert_trees_all_equal(load_model(workdir)[1], load_model(begun)[1])


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
