"""Checkpoints: what is saved comes back, damage is found, and a full disk leaves what was there."""

import errno
import functools
import json
import os
import shutil
import subprocess
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saal_jax import InputError, checkpoint, load_model, max_perturbed_loss
from saal_jax.models import resnet18
from saal_jax.preprocessing import normalize
from saal_jax.training import TrainState

MODEL = resnet18(10, width=1)
RECORD = {
    "model": {"name": "resnet18", "width": 1, "num_classes": 10},
    "recipe": {"name": "supervised"},
    "image_shape": [8, 8, 1],
    "mean": [0.5],
    "std": [0.25],
    "history": [],
}


@pytest.fixture(scope="module")
def state():
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    weights = jax.tree.map(lambda leaf: jnp.asarray(generator.uniform(0.1, 1, leaf.shape), leaf.dtype), shapes)
    return {
        "train": TrainState(weights, optax.sgd(0.1, 0.9).init(weights.params)),
        "labelled": np.arange(6) % 2 == 0,
    }


def small(value=0):
    return {"a": np.full(5, value), "empty": {}}


def test_round_trip_keeps_every_bit(tmp_path, state):
    record = RECORD | {"history": [{"loss": 0.1 + 0.2, "score": None}]}
    checkpoint.save(tmp_path / "run", 3, state, record)
    cycle, tree, loaded = checkpoint.load_newest(tmp_path / "run")
    assert (cycle, loaded) == (3, record)
    restored = checkpoint.into(jax.tree.map(np.zeros_like, state), tree)
    chex.assert_trees_all_equal(restored, state)
    chex.assert_trees_all_equal_dtypes(restored, state)


def test_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path):
    for cycle in (8, 9, 10):
        checkpoint.save(tmp_path, cycle, small(cycle), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9"]
    cycle, tree, _ = checkpoint.load_newest(tmp_path)
    assert cycle == 10 and (tree["a"] == 10).all()


def test_nothing_there(tmp_path):
    assert checkpoint.load_newest(tmp_path / "nowhere") is None
    assert checkpoint.load_newest(tmp_path) is None


def files_of(folder):
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)


def load_quietly(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return checkpoint.load_newest(folder), [str(warning.message) for warning in caught]


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Whichever byte is flipped, what is loaded is what was saved, from this checkpoint or from the one before."""
    checkpoint.save(tmp_path / "whole", 1, small(1), {"n": 1})
    checkpoint.save(tmp_path / "whole", 2, {"a": np.arange(100.0), "empty": {}}, {"n": 2})
    fell_back = 0
    for number in range(len(files_of(tmp_path / "whole" / "2"))):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / f"copy{number}")
        path = files_of(folder / "2")[number]
        content = bytearray(path.read_bytes())
        if not content:
            continue
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
        (cycle, tree, record), messages = load_quietly(folder)
        assert record == {"n": cycle}
        np.testing.assert_array_equal(tree["a"], np.full(5, 1) if cycle == 1 else np.arange(100.0))
        if cycle == 1:
            fell_back += 1
            assert "copy" in messages[0] and "damaged" in messages[0] and "using the one before" in messages[0]
    assert fell_back >= 2  # at least the arrays and the record


def test_a_checkpoint_under_another_number_is_not_that_cycle(tmp_path):
    for cycle in (1, 2):
        checkpoint.save(tmp_path, cycle, small(cycle), {"n": cycle})
    shutil.copytree(tmp_path / "2", tmp_path / "3")
    (cycle, _, record), messages = load_quietly(tmp_path)
    assert (cycle, record) == (2, {"n": 2})
    assert messages == [f"checkpoint {tmp_path / '3'} is damaged: it is that of cycle 2; using the one before"]


def test_a_pipe_in_a_checkpoint_is_not_waited_for(tmp_path):
    for cycle in (1, 2):
        checkpoint.save(tmp_path, cycle, small(cycle), {})
    os.mkfifo(tmp_path / "2" / "record" / "pipe")
    (cycle, _, _), messages = load_quietly(tmp_path)
    assert cycle == 1 and "pipe is no regular file" in messages[0]


def test_a_half_written_checkpoint_is_damaged(tmp_path):
    for cycle in (1, 2):
        checkpoint.save(tmp_path, cycle, small(cycle), {})
    largest = files_of(tmp_path / "2")[0]
    os.truncate(largest, largest.stat().st_size // 2)
    (cycle, _, _), messages = load_quietly(tmp_path)
    assert cycle == 1 and len(messages) == 1
    checkpoint.save(tmp_path, 2, small(7), {})  # continuing overwrites the damaged one
    (cycle, tree, _), messages = load_quietly(tmp_path)
    assert cycle == 2 and (tree["a"] == 7).all() and not messages


def test_nothing_is_begun_anew_over_damaged_checkpoints(tmp_path):
    for cycle in (1, 2):
        checkpoint.save(tmp_path, cycle, small(cycle), {})
        for path in files_of(tmp_path / str(cycle)):
            path.write_bytes(b"junk")
    with pytest.raises(InputError, match="2 is damaged: .* nor is one before it whole"):
        checkpoint.load_newest(tmp_path)


def test_every_saved_cycle_is_on_disk_whatever_else_lies_there(tmp_path):
    checkpoint.save(tmp_path, 4, small(4), {})
    (tmp_path / "7").mkdir()
    (cycle, _, _), _ = load_quietly(tmp_path)
    assert cycle == 4
    for cycle in (5, 6):
        checkpoint.save(tmp_path, cycle, small(cycle), {})
        assert checkpoint.load_newest(tmp_path)[0] == cycle


@pytest.mark.parametrize("error", [OSError(errno.EIO, "input/output error"), MemoryError()])
def test_a_passing_failure_is_no_damage(tmp_path, monkeypatch, error):
    checkpoint.save(tmp_path, 1, small(), {})

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", fail)
    with pytest.raises(type(error)):
        checkpoint.load_newest(tmp_path)


def test_exchanged_contents_do_not_match_their_digest(tmp_path):
    checkpoint.save(tmp_path, 1, small(1), {})
    checkpoint.save(tmp_path, 2, small(2), {})
    shutil.rmtree(tmp_path / "2" / "state")
    shutil.copytree(tmp_path / "1" / "state", tmp_path / "2" / "state")
    (cycle, _, _), messages = load_quietly(tmp_path)
    assert cycle == 1 and "do not match their digest" in messages[0]


def test_the_model_of_a_run_comes_back_ready_to_score(tmp_path, state):
    checkpoint.save(tmp_path / "checkpoints" / "seed_7", 0, state, RECORD)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    apply_fn, params = load_model(tmp_path)
    chex.assert_trees_all_equal(params, state["train"].weights.params)
    expected = jax.jit(MODEL.apply)(state["train"].weights, normalize(images, [0.5], [0.25]))
    np.testing.assert_allclose(jax.jit(apply_fn)(params, images), expected, rtol=1e-6)
    assert jax.eval_shape(functools.partial(max_perturbed_loss, apply_fn), params, images).shape == (3,)
    load_model(tmp_path, seed=7)
    with pytest.raises(InputError, match="no readable checkpoint of seed 8"):
        load_model(tmp_path, seed=8)
    with pytest.raises(InputError, match="no readable checkpoint in"):
        load_model(tmp_path / "elsewhere")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights than this user has")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("check_first", [True, False], ids=["seen beforehand", "while writing"])
def test_a_full_disk_leaves_the_last_checkpoints(small_disk, monkeypatch, check_first):
    state = {"a": np.random.default_rng(0).normal(size=100_000)}
    for cycle in (1, 2):
        checkpoint.save(small_disk / "run", cycle, state, {})
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(b"x" * (free - 200_000))
    if not check_first:
        monkeypatch.setattr(checkpoint, "_MARGIN", -(10**9))
    with pytest.raises(OSError) as error:
        checkpoint.save(small_disk / "run", 3, state, {})
    assert error.value.errno == errno.ENOSPC
    assert checkpoint.load_newest(small_disk / "run")[0] == 2
    (small_disk / "filler").unlink()
    checkpoint.save(small_disk / "run", 3, state, {})
    assert checkpoint.load_newest(small_disk / "run")[0] == 3
    assert json.dumps(sorted(os.listdir(small_disk / "run"))) == '["2", "3"]'
