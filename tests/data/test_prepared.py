"""Reading TFDS directories: slices, ids, and what is wrong with a directory."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from saal_jax.data import load

from . import custom

IMAGE = tfds.features.Image(shape=(4, 4, 3))
LABEL = tfds.features.ClassLabel(names=["even", "odd"])
FEATURES = {"image": IMAGE, "label": LABEL}


def examples(n, **more):
    return [
        {"image": custom.encoded(custom.flat(i)), "label": i % 2, **{k: v(i) for k, v in more.items()}}
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def parity(tmp_path_factory):
    """A data set without ids: 50 training images in 5 shards and 10 test images; the label is the pixels' parity."""
    data_dir = tmp_path_factory.mktemp("parity")
    custom.prepare(data_dir, "parity", FEATURES, {"train": examples(50), "test": examples(10)}, shards=5)
    return str(data_dir)


@pytest.fixture
def read(parity, tmp_path):
    return lambda name="parity", **arguments: load(
        name, **{"data_dir": parity, "cache_dir": str(tmp_path / "cache"), **arguments}
    )


def test_pixels_and_labels_belong_together(read):
    data = read()
    values = data.train.images[:, 0, 0, 0]
    assert sorted(values.tolist()) == list(range(50))
    assert (data.train.images == values[:, None, None, None]).all()
    assert np.array_equal(data.train.labels, values % 2)
    assert data.class_names == ("even", "odd")


@pytest.mark.parametrize(
    "spec, positions",
    [
        ("train[:40%]", range(20)),
        ("train[20%:40%]", range(10, 20)),
        ("train[-7:]", range(43, 50)),
        ("train[3:4]", [3]),
        ("train[4shard:]", range(40, 50)),
        ("train[40:]+train[:5]", [*range(40, 50), *range(5)]),
        ("train[48:]+test[:2]", [48, 49]),
    ],
)
def test_a_slice_is_cut_from_the_whole(read, spec, positions):
    whole, part = read(), read(split=spec, test_split="test[5:]")
    n = len(positions)
    assert part.train.ids[:n].tolist() == [f"train_{i:05d}" for i in positions]
    for field in ("images", "labels", "ids"):
        assert np.array_equal(getattr(part.train, field)[:n], getattr(whole.train, field)[list(positions)])
    assert part.train.ids[n:].tolist() == ["test_00000", "test_00001"] * ("test" in spec)


def test_three_ways_to_write_a_slice(read):
    digests = {
        read("parity[:40%]").digest,
        read("parity:train[:40%]").digest,
        read("parity", split="train[:40%]").digest,
        read("parity:1.0.0[:40%]", split="train").digest,
    }
    assert len(digests) == 1 and digests != {read().digest}
    assert read("parity[:2]", split="test", test_split="train").train.ids.tolist() == ["test_00000", "test_00001"]


def test_only_the_shards_of_the_slice_are_needed(parity, read, tmp_path, refused):
    copy = tmp_path / "copy"
    keep = shutil.ignore_patterns(*(f"*train*-0000{i}-of-*" for i in (2, 3, 4)))
    shutil.copytree(parity, copy, ignore=keep)
    assert read("parity[:40%]", data_dir=str(copy)).digest == read("parity[:40%]").digest
    refused("train.array_record-00002-of-00005", "missing", name="parity[:42%]", data_dir=str(copy))


@pytest.mark.parametrize(
    "spec, words",
    [
        ("valid", ["'valid'", "train (50 examples), test (10 examples)"]),
        ("train[:x]", ["train[:x]"]),
        ("train[:51]", ["[:51]", "50 examples"]),
        ("train[:101%]", ["101%"]),
        ("train[5:5]", ["'train[5:5]'", "no examples"]),
        ("train[9:3]", ["'train[9:3]'", "no examples"]),
        ("train+test[:1]", ["share"]),
        ("all", ["share"]),
        ("all[:3]", ["all"]),
        ("train[:2]+train[1:3]", ["'train_00001'", "more than once"]),
        ("", ["''"]),
    ],
)
def test_bad_split(parity, tmp_path, refused, spec, words):
    refused("parity", *words, name="parity", split=spec, data_dir=parity, cache_dir=str(tmp_path))


def test_slice_given_twice(parity, refused):
    refused("'parity[:2]'", "'train[:3]'", name="parity[:2]", split="train[:3]", data_dir=parity)
    refused("'parity:test[:2]'", "'valid'", name="parity:test[:2]", split="valid", data_dir=parity)


def test_ids_that_the_data_set_has(tmp_path):
    texts = {**FEATURES, "id": tfds.features.Text()}
    numbers = {**FEATURES, "id": np.int64}
    custom.prepare(tmp_path, "texts", texts, {s: examples(3, id=lambda i: f"né {i}") for s in ("train", "test")})
    custom.prepare(tmp_path, "numbers", numbers, {s: examples(3, id=lambda i: i + 7) for s in ("train", "test")})
    got = {name: load(name, data_dir=str(tmp_path), cache_dir=str(tmp_path)).train for name in ("texts", "numbers")}
    assert sorted(got["texts"].ids) == ["né 0", "né 1", "né 2"]
    assert sorted(got["numbers"].ids) == ["7", "8", "9"]
    assert [int(i) - 7 for i in got["numbers"].ids] == got["numbers"].images[:, 0, 0, 0].tolist()


def test_configs(tmp_path):
    for config, n in (("small", 2), ("large", 4)):
        custom.prepare(tmp_path, "sized", FEATURES, {"train": examples(n), "test": examples(1)}, config=config)
    for config, n in (("small", 2), ("large", 4)):
        assert len(load(f"sized/{config}", data_dir=str(tmp_path), cache_dir=str(tmp_path)).train.labels) == n


def test_grey_palette_and_jpeg_files_take_the_features_channels(tmp_path):
    red = custom.flat((200, 10, 10))
    grey = [{"image": custom.encoded(custom.flat(9, (4, 4)), kind), "label": 0} for kind in ("PNG", "JPEG")]
    mixed = [{"image": custom.encoded(red), "label": 0}, *grey]
    custom.prepare(tmp_path, "mixed", FEATURES, {"train": mixed, "test": mixed})
    got = load("mixed", data_dir=str(tmp_path), cache_dir=str(tmp_path)).train.images
    assert sorted(got[:, 0, 0].tolist()) == [[9, 9, 9], [9, 9, 9], [200, 10, 10]]


def test_labels_outside_the_classes(tmp_path, refused):
    """TFDS writes -1 where a test set is published without labels."""
    unlabelled = [{**example, "label": -1} for example in examples(2)]
    custom.prepare(tmp_path, "hidden", FEATURES, {"train": examples(2), "test": unlabelled})
    refused("label -1", "'test_00000'", "0..1", name="hidden", data_dir=str(tmp_path), cache_dir=str(tmp_path))


def test_images_of_different_shapes(tmp_path, refused):
    features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": LABEL}
    odd = [{"image": custom.encoded(custom.flat(1, (5, 4, 3))), "label": 0}]
    custom.prepare(tmp_path, "within", features, {"train": examples(2) + odd, "test": examples(1)})
    custom.prepare(tmp_path, "between", features, {"train": examples(2), "test": odd})
    for name in ("within", "between"):
        refused("5x4x3", "4x4x3", "give an image_size", name=name, data_dir=str(tmp_path), cache_dir=str(tmp_path))


def test_images_of_different_shapes_resized(tmp_path):
    """Caltech-101 as TFDS has it: JPEG files of any shape, some of them grey."""
    features = {"image": tfds.features.Image(), "label": LABEL, "image/file_name": tfds.features.Text()}
    shapes = [(7, 9, 3), (12, 5, 3), (6, 6), (20, 30, 3)]
    mixed = [
        {"image": custom.encoded(custom.flat(40 * i, shape), "JPEG"), "label": i % 2, "image/file_name": f"{i}.jpg"}
        for i, shape in enumerate(shapes)
    ]
    custom.prepare(tmp_path, "caltech101", features, {"train": mixed, "test": mixed[:2]})
    data = load("caltech101", image_size=6, data_dir=str(tmp_path), cache_dir=str(tmp_path))
    assert data.train.images.shape == (4, 6, 6, 3) and data.test.images.shape == (2, 6, 6, 3)
    values = data.train.images[:, 0, 0, 0]
    assert np.array_equal(data.train.labels, np.rint(values / 40) % 2)
    assert np.ptp(data.train.images.astype(int), axis=(1, 2, 3)).max() <= 2  # one colour stays one colour
    assert sorted(np.rint(values / 40)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "features, keys",
    [
        (FEATURES, None),
        (FEATURES, ("label", "image")),
        ({"image": IMAGE, "label": np.float32}, ("image", "label")),
        ({"image": tfds.features.Image(shape=(4, 4, 3), dtype=np.uint16), "label": LABEL}, ("image", "label")),
    ],
)
def test_no_image_classification(tmp_path, refused, features, keys):
    path = custom.prepare(tmp_path, "other", FEATURES, {"train": examples(1), "test": examples(1)}, keys=keys)
    (path / "features.json").write_text(json.dumps(tfds.features.FeaturesDict(features).to_json()))
    refused("other/1.0.0", "no data set of 8-bit images", name="other", data_dir=str(tmp_path))


def test_not_array_record(tmp_path, refused):
    path = custom.prepare(tmp_path, "old", FEATURES, {"train": examples(1), "test": examples(1)})
    info = path / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    refused("tfrecord", "file_format array_record", name="old", data_dir=str(tmp_path))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_broken_metadata(tmp_path, refused, file):
    path = custom.prepare(tmp_path, "broken", FEATURES, {"train": examples(1), "test": examples(1)})
    (path / file).write_text("{")
    refused("broken", tmp_path, "metadata", name="broken", data_dir=str(tmp_path))
    (path / file).unlink()
    refused("broken", tmp_path, name="broken", data_dir=str(tmp_path))


def test_reading_writes_nothing_into_the_data_dir(parity, read):
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(parity).rglob("*"))
    read()
    assert before == sorted((path, path.stat().st_mtime_ns) for path in Path(parity).rglob("*"))


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: b"\xff" * len(data)])
def test_broken_shard(tmp_path, refused, damage):
    path = custom.prepare(tmp_path, "broken", FEATURES, {"train": examples(9), "test": examples(1)})
    (shard,) = path.glob("*train*")
    shard.write_bytes(damage(shard.read_bytes()))
    refused("broken/1.0.0", tmp_path, "records", name="broken", data_dir=str(tmp_path), cache_dir=str(tmp_path))


def test_unreadable_image(tmp_path, refused):
    whole = custom.encoded(np.random.default_rng(0).integers(0, 256, (4, 4, 3)))
    train = [*examples(2), {"image": whole[: len(whole) // 2], "label": 0}]
    custom.prepare(tmp_path, "half", FEATURES, {"train": train, "test": examples(1)})
    refused("half/1.0.0", "example 'train_0", "image", name="half", data_dir=str(tmp_path), cache_dir=str(tmp_path))


def test_unknown_names(tmp_path, refused):
    refused("'cifar11'", tmp_path, "cifar10", name="cifar11", data_dir=str(tmp_path))
    refused("digits", name="digitz", data_dir=str(tmp_path))
    refused("'a/b/c'", "name/config", name="a/b/c", data_dir=str(tmp_path))
    refused("'@!'", name="@!", data_dir=str(tmp_path))
    refused("cifar10:1.0.0", tmp_path, name="cifar10:1.0.0", data_dir=str(tmp_path))


def test_known_but_not_prepared(tmp_path, refused):
    folder = tmp_path / "none"
    for name in ("mnist", "emnist/balanced"):
        refused(f"`tfds build {name} --file_format=array_record --data_dir={folder}`", name=name, data_dir=str(folder))
    assert not folder.exists()


def test_the_folder_one_is_in(tiny, refused, monkeypatch):
    monkeypatch.chdir(tiny / "cifar10")
    refused("lies in the data set itself", name="cifar10", data_dir=".")


@pytest.mark.parametrize("inside", ["cifar10", "cifar10/3.0.2"])
def test_a_folder_inside_the_data_set(tiny, refused, inside):
    """Else a second one would be downloaded into the first."""
    refused(f"lies in the data set itself; give the folder above, {tiny}", name="cifar10", data_dir=f"{tiny}/{inside}")


def test_ids_that_are_no_text(tmp_path, refused):
    features = {**FEATURES, "id": tfds.features.Text()}
    custom.prepare(
        tmp_path, "odd", features, {part: examples(2, id=lambda i: b"\xe9%d" % i) for part in ("train", "test")}
    )
    refused("the id b'\\xe9", "is not UTF-8", name="odd", data_dir=str(tmp_path))
