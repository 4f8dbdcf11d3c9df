"""Data sets larger than memory: on disk they are what they are in memory, and give the same results."""

import math
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.run import main
from saal_jax.data import image_files, load
from saal_jax.data.imbalance import alternating
from saal_jax.data.on_disk import Rows, blocks, join, take
from saal_jax.engine.memory import on_disk
from saal_jax.errors import InputError
from saal_jax.preprocessing import mean_and_std

from . import custom

SIZES = {"train": 60, "test": 30}
FEATURES = {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(num_classes=3)}


def content(split):
    """Noise, brighter from class to class."""
    labels = np.arange(SIZES[split]) % 3
    noise = np.random.default_rng(len(split)).integers(0, 100, (len(labels), 8, 8, 1))
    return (noise + 70 * labels[:, None, None, None]).astype(np.uint8), labels


def write_npz(root, save=np.savez, **more):
    parts = {split: content(split) for split in SIZES}
    arrays = {f"{split}_images": pixels[..., 0] for split, (pixels, _) in parts.items()}
    arrays |= {f"{split}_labels": labels for split, (_, labels) in parts.items()}
    save(root / "noise.npz", **(arrays | more))
    return str(root / "noise.npz")


def write_folder(root):
    for split in SIZES:
        for i, (pixels, label) in enumerate(zip(*content(split), strict=True)):
            path = root / "noise" / split / f"class {label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(custom.encoded(pixels[..., 0]))
    return str(root / "noise")


def write_tfds(root):
    splits = {
        split: [
            {"image": custom.encoded(pixels[..., 0]), "label": int(label)}
            for pixels, label in zip(*content(split), strict=True)
        ]
        for split in SIZES
    }
    custom.prepare(root, "noise", FEATURES, splits, shards=3)
    return "noise"


@pytest.fixture(params=[write_npz, write_folder, write_tfds])
def source(request, tmp_path):
    return request.param(tmp_path)


def both(source, tmp_path, **options):
    """Loaded into memory, and mapped from the disk."""
    options |= {"data_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    return load(source, **options), load(source, max_resident=500, **options)


def assert_same(mapped, whole):
    assert mapped.digest == whole.digest and mapped.class_names == whole.class_names
    for ours, theirs in zip(mapped[:2], whole[:2], strict=True):
        assert on_disk(ours.images) and not on_disk(theirs.images)
        assert (ours.images.shape, ours.images.dtype) == (theirs.images.shape, theirs.images.dtype)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        for positions in (np.array([7, -1, 0, 7]), slice(2, 9)):
            np.testing.assert_array_equal(ours.images[positions], theirs.images[positions])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_size": 5},
        {"split": "train[:40%]", "test_split": "test[50%:]"},
        {"split": "train[40:]+test[20:]+train[:20]", "test_split": "test[:20]"},
    ],
    ids=["whole", "resized", "sliced", "joined"],
)
def test_what_is_loaded(source, tmp_path, options):
    whole, mapped = both(source, tmp_path, **options)
    assert_same(mapped, whole)
    assert mean_and_std(mapped.train.images) == mean_and_std(whole.train.images)
    ours, theirs = (alternating(few=2, many=5)(data.train, 3) for data in (mapped, whole))
    assert on_disk(ours.images)
    np.testing.assert_array_equal(ours.images[np.arange(9)], theirs.images)
    np.testing.assert_array_equal(ours.ids, theirs.ids)


def test_a_split_that_is_small_enough_is_in_memory(tmp_path):
    both_resident, neither, train_alone = (
        load(write_npz(tmp_path), cache_dir=str(tmp_path / "cache"), max_resident=size)
        for size in (64 * 60, 64 * 30 - 1, 64 * 60 - 1)
    )
    assert [on_disk(part.images) for part in (*both_resident[:2], *neither[:2])] == [False, False, True, True]
    assert on_disk(train_alone.train.images) and not on_disk(train_alone.test.images)


def test_it_is_decoded_once_and_kept_once(source, tmp_path, monkeypatch):
    options = {"data_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "max_resident": 1000}
    first = load(source, **options)
    files = sorted((tmp_path / "cache").iterdir())
    assert sum(path.stat().st_size for path in files if path.suffix == ".npy") < 90 * 64 + 2 * 200
    assert all(path.suffix == ".npy" or "images" not in np.load(path).files for path in files)
    times = {path: path.stat().st_mtime_ns for path in files}
    decode, calls = image_files.decode, []
    monkeypatch.setattr(image_files, "decode", lambda *args: (calls.append(args), decode(*args))[1])
    assert load(source, **options).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == times
    assert len(calls) <= 2  # the first of a split, for its size


def flip(data):
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


@pytest.mark.parametrize("damage", [flip, lambda data: data[:-1], lambda data: data[:150], lambda data: b""])
def test_broken_files_are_rebuilt(source, tmp_path, damage):
    whole, mapped = both(source, tmp_path)
    for path in (tmp_path / "cache").iterdir():
        content = path.read_bytes()
        path.unlink()  # what is mapped keeps the old one
        path.write_bytes(damage(content))
    assert_same(both(source, tmp_path)[1], whole)


def test_nowhere_to_keep_it(source, tmp_path, monkeypatch):
    options = {"data_dir": str(tmp_path), "max_resident": 1000}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="max_resident.* cannot be written to .*file"):
        load(source, cache_dir=str(tmp_path / "file"), **options)
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-that-name")
    with pytest.warns(UserWarning, match="XDG_CACHE_HOME"), pytest.raises(InputError, match="no folder to keep them"):
        load(source, **options)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saal_jax.data.cache.os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        load(source, cache_dir=str(tmp_path / "full"), **options)
    assert not [path for path in (tmp_path / "full").iterdir() if path.suffix != ".npz"]


def test_archives_of_all_kinds(tmp_path, refused):
    whole = load(write_npz(tmp_path))
    options = {"cache_dir": str(tmp_path / "cache"), "max_resident": 1000}
    assert_same(load(write_npz(tmp_path, np.savez_compressed), **options), whole)
    pixels, _ = content("train")
    assert_same(load(write_npz(tmp_path, train_images=pixels), **options), whole)
    by_columns = write_npz(tmp_path, train_images=np.asfortranarray(pixels))
    refused("train_images", "Fortran", name=by_columns, **options)
    first = write_npz(tmp_path, train_images=pixels.transpose(0, 3, 1, 2).repeat(3, 1).copy())
    refused("looks like channels first", name=first, **options)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_archives_are_refused(tmp_path, refused, save):
    larger = np.random.default_rng(0).integers(0, 256, (60, 32, 32), np.uint8)  # than what is read to see its header
    path = write_npz(tmp_path, save, train_images=larger)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("train_images.npy").header_offset
    with open(path, "r+b") as file:
        file.seek(start + 30_000)
        (byte,) = file.read(1)
        file.seek(start + 30_000)
        file.write(bytes([byte ^ 1]))
    refused(path, "no .npz file", name=path, cache_dir=str(tmp_path / "cache"), max_resident=1000)
    assert not list((tmp_path / "cache").iterdir())


def test_rows_of_several_arrays(tmp_path):
    arrays = []
    for number, size in enumerate((5, 1, 7)):
        array = np.lib.format.open_memmap(tmp_path / f"{number}.npy", "w+", np.uint8, (size, 2, 3, 1))
        array[:] = np.random.default_rng(number).integers(0, 256, array.shape)
        arrays.append(array)
    whole = np.concatenate(arrays)
    joined = join(arrays)
    view = take(joined, np.array([12, 3, 3, 0, 5]))
    assert isinstance(view, Rows) and view.shape == (5, 2, 3, 1)
    np.testing.assert_array_equal(joined[np.arange(-13, 13)], whole[np.arange(-13, 13)])
    np.testing.assert_array_equal(view[[4, 0, -4]], whole[[5, 12, 3]])
    np.testing.assert_array_equal(view[1:4], whole[[3, 3, 0]])


def test_blocks_are_small_and_in_order():
    pixels = np.arange(200_000, dtype=np.uint8).reshape(-1, 1, 1, 1)
    parts = list(blocks(pixels))
    assert max(map(len, parts)) <= 2**16
    np.testing.assert_array_equal(np.concatenate(parts), pixels)
    large = np.broadcast_to(np.uint8(0), (3, 5000, 4000, 1))
    assert [part.shape for part in blocks(large)] == [(1, 5000, 4000, 1)] * 3


def test_mean_and_std_of_the_largest_values():
    pixels = np.full((70_000, 2, 1, 2), 255, np.uint8)
    pixels[::2, ..., 1] = 0
    assert mean_and_std(pixels) == ([1.0, 0.5], [0.0, 0.5])
    noise = np.random.default_rng(0).integers(0, 256, (1000, 4, 5, 3), np.uint8)
    found = mean_and_std(noise)
    np.testing.assert_allclose(found, [noise.mean((0, 1, 2)) / 255, noise.std((0, 1, 2)) / 255], rtol=1e-14)
    assert math.isclose(found[0][0], noise[..., 0].mean() / 255, rel_tol=0)


@pytest.mark.parametrize(
    "source",
    [write_tfds, *(pytest.param(write, marks=pytest.mark.slow) for write in (write_npz, write_folder))],
    indirect=True,
)
def test_a_run_is_the_same_to_the_byte(source, tmp_path):
    for where, more in (("memory", []), ("disk", ["--config.max_resident=1000"])):
        arguments = ["--config=digits_saal", f"--config.dataset={source}", f"--data_dir={tmp_path}"]
        quick = ["--config.cycles=2", "--config.epochs=2", "--config.seeds=1", "--config.model.width=2"]
        assert main([*arguments, *quick, *more, f"--workdir={tmp_path / where}"]) == 0
    for name in ("metrics.csv", "selections.csv", "query_metrics.csv", "initial_labels.csv", "digests.csv"):
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()
    # and what was begun on disk goes on in memory
    assert main([*arguments, *quick, "--config.cycles=3", f"--workdir={tmp_path / 'disk'}"]) == 0
