"""Embeddings of a user's own."""

import os

import numpy as np
import pytest

from saal_jax.data.embeddings import digest, load_embeddings
from saal_jax.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def stored(tmp_path, array, name="a.npy"):
    np.save(tmp_path / name, array, allow_pickle=True)
    return str(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.float32, ">f4", np.float64, np.float16, np.int8])
def test_values_and_order(tmp_path, dtype):
    array = ROWS.astype(dtype)
    got = load_embeddings(stored(tmp_path, array), 5)
    assert got.dtype == np.float32 and got.shape == (5, 3)
    np.testing.assert_array_equal(got, array.astype(np.float32))


def test_float32_stays_on_disk(tmp_path, monkeypatch):
    stored(tmp_path, ROWS)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(load_embeddings("~/a.npy", 5).base, np.memmap)


def test_digest_is_of_values_and_shape(tmp_path):
    same = [ROWS, ROWS.astype(np.float64), np.asfortranarray(ROWS)]
    assert len({digest(load_embeddings(stored(tmp_path, array), 5)) for array in same}) == 1
    other = ROWS.copy()
    other[4, 2] += 1e-6
    others = [other, ROWS[::-1], ROWS[:, ::-1], ROWS.reshape(3, 5)]
    assert len({digest(array) for array in [ROWS, *others]}) == 5


@pytest.mark.parametrize(
    "array, words",
    [
        (ROWS[:4], ["4 rows", "5 images", "in the pool's order"]),
        (ROWS[:, 0], ["float32 [5]", "[N, D]"]),
        (ROWS[..., None], ["float32 [5, 3, 1]"]),
        (ROWS[:, :0], ["float32 [5, 0]"]),
        (ROWS > 0, ["bool [5, 3]", "real numbers"]),
        (ROWS + 1j, ["complex64 [5, 3]"]),
        (ROWS.astype(str), ["[5, 3]", "real numbers"]),
        (ROWS.astype(object), ["no .npy file of a plain array", "np.save"]),
        (np.where(np.arange(5)[:, None] == 3, np.nan, ROWS), ["row 3", "not finite"]),
        (np.where(np.arange(5)[:, None] == 2, np.inf, ROWS), ["row 2", "not finite"]),
        (ROWS * np.array([1, 1e200, 1, 1, 1])[:, None], ["row 1", "not finite in float32"]),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, array, words):
    refused(stored(tmp_path, array), *words)


def test_files_that_are_none(tmp_path):
    refused(str(tmp_path / "none.npy"), "no such file")
    (tmp_path / "dir.npy").mkdir()
    refused(str(tmp_path / "dir.npy"), "np.save")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(str(tmp_path / "pipe.npy"), "no regular file")
    np.savez(tmp_path / "archive.npz", ROWS)
    np.savetxt(tmp_path / "text.npy", ROWS)
    (tmp_path / "empty.npy").write_bytes(b"")
    whole = (tmp_path / "whole.npy", stored(tmp_path, ROWS, "whole.npy"))[0].read_bytes()
    (tmp_path / "half.npy").write_bytes(whole[: len(whole) - 10])
    for name in ("archive.npz", "text.npy", "empty.npy", "half.npy"):
        refused(str(tmp_path / name), "no .npy file of a plain array", "np.save")


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        load_embeddings(path, 5)
    message = str(caught.value)
    assert message.startswith(path) and "\n" not in message
    for word in words:
        assert word in message
