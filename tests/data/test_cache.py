"""What was decoded once is not decoded again, unless its content changed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from saal_jax.data import image_files, load
from saal_jax.data.cache import cached
from saal_jax.errors import InputError

from . import custom

FEATURES = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(num_classes=2)}


def make_tfds(root, offset=0):
    examples = [{"image": custom.encoded(custom.flat(i + offset)), "label": i % 2} for i in range(6)]
    custom.prepare(root, "six", FEATURES, {"train": examples, "test": examples[:2]})
    return "six", root


def make_folder(root, offset=0):
    for i in range(6):
        path = root / "pictures" / ("test" if i < 2 else "train") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(custom.encoded(custom.flat(i + offset)))
    return str(root / "pictures"), root


@pytest.fixture
def decodings(monkeypatch):
    """Grows by one with every image that is decoded."""
    calls, decode = [], image_files.decode
    monkeypatch.setattr(
        image_files, "decode", lambda *args, **options: (calls.append(args), decode(*args, **options))[1]
    )
    return calls


@pytest.fixture(params=[make_tfds, make_folder])
def source(request, tmp_path):
    """A way to write a data set, and a way to read it."""
    (tmp_path / "data").mkdir()

    def write(offset=0):
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "data").mkdir()
        return request.param(tmp_path / "data", offset)

    name, data_dir = write()
    return write, lambda cache, **more: load(name, data_dir=str(data_dir), cache_dir=str(cache), **more)


def same(a, b):
    return a.digest == b.digest and all(
        np.array_equal(x, y) and x.dtype == y.dtype
        for s, t in zip(a[:2], b[:2], strict=True)
        for x, y in zip(s, t, strict=True)
    )


def test_a_hit_is_the_same_without_decoding(source, decodings, tmp_path):
    _, read = source
    first = read(tmp_path / "cache")
    assert decodings
    decodings.clear()
    assert same(first, read(tmp_path / "cache"))
    assert not decodings


def test_other_content_under_the_same_name(source, decodings, tmp_path):
    write, read = source
    first = read(tmp_path / "cache")
    write(offset=100)
    second = read(tmp_path / "cache")
    assert sorted(second.train.images[:, 0, 0, 0]) == [v + 100 for v in sorted(first.train.images[:, 0, 0, 0])]
    assert first.digest != second.digest
    write()
    decodings.clear()
    assert same(first, read(tmp_path / "cache"))
    assert not decodings


def test_same_content_under_another_name(source, decodings, tmp_path):
    _, read = source
    first = read(tmp_path / "cache")
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    decodings.clear()
    name = "six" if (tmp_path / "data" / "six").exists() else str(tmp_path / "moved" / "pictures")
    assert same(first, load(name, data_dir=str(tmp_path / "moved"), cache_dir=str(tmp_path / "cache")))
    assert not decodings


def test_slices_of_one_file_are_kept_apart(source, tmp_path):
    _, read = source
    whole = read(tmp_path / "cache")
    for start in range(3):
        part = read(tmp_path / "cache", split=f"train[{start}:{start + 2}]")
        assert np.array_equal(part.train.images, whole.train.images[start : start + 2])


def test_sizes_are_kept_apart(source, decodings, tmp_path):
    _, read = source
    for size, height, new in ((None, 4, True), (3, 3, True), (9, 9, True), (3, 3, False), (None, 4, False)):
        decodings.clear()
        assert read(tmp_path / "cache", image_size=size).train.images.shape[1] == height
        assert bool(decodings) == new


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [flip, lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"PK"])
def test_broken_file_is_rebuilt(source, decodings, tmp_path, damage):
    _, read = source
    first = read(tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    decodings.clear()
    assert same(first, read(tmp_path / "cache"))
    assert decodings
    decodings.clear()
    assert same(first, read(tmp_path / "cache"))
    assert not decodings


def test_every_flipped_byte_is_found(tmp_path):
    """The arrays are worth nothing if a flipped bit can reach them."""
    names, want = ("images", "ids"), [np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3), np.array(["a", "b"])]
    cached("k", str(tmp_path), names, lambda: want)
    path = tmp_path / "k.npz"
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :])
        got = cached("k", str(tmp_path), names, lambda: want)
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(got, want, strict=True)), i


def test_unwritable_cache_is_no_error(source, tmp_path, monkeypatch):
    _, read = source
    first = read(tmp_path / "cache")
    (tmp_path / "file").write_text("")
    assert same(first, read(tmp_path / "file"))  # nobody, not even root, makes a folder below a file
    assert same(first, read(Path("/proc/cache")))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saal_jax.data.cache.os.fsync", full)
    assert same(first, read(tmp_path / "full"))
    assert not list((tmp_path / "full").iterdir())


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("saal_jax.data.cache.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cached("k", str(tmp_path), ["a"], lambda: [np.zeros(3)])
    assert not list(tmp_path.iterdir())


def test_default_folder(source, tmp_path, monkeypatch):
    _, read = source
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cached("k", None, ["a"], lambda: [np.zeros(3)])
    assert [p.name for p in (tmp_path / "xdg" / "saal_jax").iterdir()] == ["k.npz"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    cached("k", None, ["a"], lambda: [np.zeros(3)])
    assert (Path.home() / ".cache" / "saal_jax" / "k.npz").exists()


def test_without_a_home_nothing_is_kept(source, monkeypatch):
    """As in a container whose user has no entry in /etc/passwd."""
    _, read = source
    first = read(Path.home())

    def no_home(path):
        return path if os.fspath(path).startswith("~") else os.fspath(path)

    monkeypatch.setattr("os.path.expanduser", no_home)
    with pytest.warns(UserWarning, match="no home folder: decoded images are not kept"):
        assert same(first, read(""))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-that-name")
    with pytest.warns(UserWarning, match="XDG_CACHE_HOME"):
        assert same(first, read(""))
    with pytest.raises(InputError, match="no such home folder"):
        read("~nobody-of-that-name/cache")
