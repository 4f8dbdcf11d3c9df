"""The embedded digits, and what holds for every source."""

import os
import zipfile

import numpy as np
import pytest
from sklearn.datasets import load_digits

from saal_jax.data import Data, Split, load
from saal_jax.errors import InputError


def test_digits_are_scikit_learns():
    data, theirs = load("digits"), load_digits()
    for split in (data.train, data.test):
        rows = [int(example.removeprefix("digits_")) for example in split.ids]
        assert np.array_equal(split.labels, theirs.target[rows])
        assert split.images.shape == (len(rows), 8, 8, 1)
        # 0..16 spread over 0..255: the way back is exact
        assert np.array_equal(np.rint(split.images[..., 0] * (16 / 255)), theirs.images[rows])
    assert data.train.images.max() == 255 and data.train.images.min() == 0
    assert data.class_names == tuple("0123456789")


def test_digits_split_is_a_stratified_partition():
    data = load("digits")
    ids = np.concatenate([data.train.ids, data.test.ids])
    assert sorted(ids) == [f"digits_{i:04d}" for i in range(1797)]
    train, test = (np.bincount(split.labels, minlength=10) for split in data[:2])
    assert np.array_equal(test, (train + test) // 4)


@pytest.mark.parametrize(
    "name, spec", [("digits[:10%]", "train"), ("digits:train[:135]", "train"), ("digits", "train[:10%]")]
)
def test_digits_slice(name, spec):
    whole, part = load("digits"), load(name, split=spec)
    assert part.train.ids.tolist() == whole.train.ids[:135].tolist()
    assert np.array_equal(part.train.images, whole.train.images[:135])
    assert np.array_equal(part.test.images, whole.test.images)


def test_digits_resized():
    data = load("digits", image_size=16)
    assert data.train.images.shape == (1352, 16, 16, 1) and data.test.images.shape == (445, 16, 16, 1)
    # a digit looks like itself: its old pixels are about the means of the new ones
    means = data.train.images.reshape(-1, 8, 2, 8, 2, 1).mean((2, 4))
    correlation = np.corrcoef(means.ravel(), load("digits").train.images.ravel())[0, 1]
    assert correlation > 0.95


def test_types():
    data = load("digits")
    assert isinstance(data, Data) and isinstance(data.train, Split) and isinstance(data.test, Split)
    for split in data[:2]:
        assert (split.images.dtype, split.labels.dtype, split.ids.dtype.kind) == (np.uint8, np.int32, "U")
        assert len(split.images) == len(split.labels) == len(split.ids)


def test_digits_bad_split(refused):
    refused("digits", "'valid'", "train (1352 examples), test (445 examples)", name="digits", split="valid")
    refused("digits", "'valid'", name="digits", test_split="valid")
    refused("share", name="digits", test_split="train[:1]")


def npz(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 256, (6, 4, 5, 3), np.uint8),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": rng.integers(0, 256, (2, 4, 5, 3), np.uint8),
        "test_labels": np.array([2, 0]),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays, str(path)


def test_digest_is_of_the_content_only(tmp_path):
    digests = {}
    for change in ("nothing", "a copy", "dtype", "names", "pixel", "label", "id", "order", "test"):
        arrays, path = npz(tmp_path / f"{change}.npz", train_ids=np.array(list("abcdef")))
        if change == "dtype":
            arrays["train_labels"] = arrays["train_labels"].astype(np.uint8)
        if change == "names":
            arrays["class_names"] = np.array(["x", "y", "z"])
        if change == "pixel":
            arrays["train_images"][5, 3, 4, 2] ^= 1
        if change == "label":
            arrays["train_labels"][0] = 1
        if change == "id":
            arrays["train_ids"][0] = "z"
        if change == "order":
            for name in ("train_images", "train_labels", "train_ids"):
                arrays[name] = arrays[name][::-1]
        if change == "test":
            arrays["test_images"][0, 0, 0, 0] ^= 1
        np.savez(path, **arrays)
        digests[change] = load(path).digest
    assert digests["nothing"] == digests["a copy"] == digests["dtype"] == digests["names"]
    assert len(set(digests.values())) == 1 + 5
    assert all(int(digest, 16) >= 0 for digest in digests.values())


def test_npz_round_trip(tmp_path):
    names = {"train_ids": np.array(list("abcdef")), "test_ids": np.array([b"g", b"h"])}
    arrays, path = npz(tmp_path / "a.npz", **names, class_names=np.array(["ant", "bee", "cat", "dog"]))
    data = load(path)
    for split in ("train", "test"):
        got = getattr(data, split)
        assert np.array_equal(got.images, arrays[f"{split}_images"])
        assert np.array_equal(got.labels, arrays[f"{split}_labels"]) and got.labels.dtype == np.int32
    assert data.train.ids.tolist() == list("abcdef") and data.test.ids.tolist() == ["g", "h"]
    assert data.class_names == ("ant", "bee", "cat", "dog")


def test_npz_without_names_or_channels(tmp_path):
    arrays, path = npz(
        tmp_path / "a.npz", train_images=np.ones((6, 4, 5), np.uint8), test_images=np.ones((2, 4, 5), np.uint8)
    )
    data = load(path)
    assert data.train.images.shape == (6, 4, 5, 1) and data.test.images.shape == (2, 4, 5, 1)
    assert data.train.ids.tolist() == [f"train_{i:05d}" for i in range(6)]
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize("dtype, classes", [("u1", 256), ("i1", 128), ("u8", 3), ("i2", 300), ("u2", 3)])
def test_labels_of_every_type_of_integer(tmp_path, dtype, classes):
    labels = np.arange(classes).astype(dtype)
    images = np.zeros((classes, 4, 5), np.uint8)
    _, path = npz(
        tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images[:2], test_labels=labels[:2]
    )
    data = load(path)
    assert data.class_names == tuple(map(str, range(classes))) and data.train.labels.dtype == np.int32
    assert np.array_equal(data.train.labels, np.arange(classes))


def test_labels_that_do_not_begin_at_0_are_asked_about(tmp_path):
    _, path = npz(tmp_path / "a.npz", train_labels=np.array([1, 2, 3, 1, 2, 3]))
    with pytest.warns(UserWarning, match="classes without a training image: 0; are they numbered from 0?"):
        assert load(path).class_names == ("0", "1", "2", "3")


def test_a_last_class_that_is_named_may_be_255(tmp_path):
    labels, names = np.array([0, 1, 255, 0, 1, 2], np.uint8), np.array([f"c{i}" for i in range(256)])
    _, path = npz(tmp_path / "a.npz", train_labels=labels, class_names=names)
    assert load(path).train.labels.tolist() == labels.tolist()


def test_bytes_are_utf_8(tmp_path):
    ids = np.array([f"é{i}".encode() for i in range(6)])
    _, path = npz(tmp_path / "a.npz", train_ids=ids, class_names=np.array([b"\xc3\xa4", b"b", b"c"]))
    data = load(path)
    assert data.train.ids.tolist() == [f"é{i}" for i in range(6)] and data.class_names == ("ä", "b", "c")


def test_members_that_are_not_asked_for_are_not_read(tmp_path):
    """Neither what is no array nor what would take all memory."""
    _, path = npz(tmp_path / "a.npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "taken in May")
        archive.writestr("huge.npy", b"\x93NUMPY garbage")
    assert len(load(path).train.labels) == 6
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("class_names", "cat dog")
    with pytest.raises(InputError, match="class_names is no array"):
        load(path)


def test_npz_resized(tmp_path):
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((4, 5, 2), np.uint8)
    _, path = npz(tmp_path / "a.npz", train_images=images, test_images=np.full((2, 9, 9, 2), 7, np.uint8))
    data = load(path, image_size=3)
    assert np.array_equal(data.train.images, images[:, :3, :3])  # of one colour each, of any number of channels
    assert np.array_equal(data.test.images, np.full((2, 3, 3, 2), 7))


def test_npz_slice(tmp_path):
    arrays, path = npz(tmp_path / "a.npz")
    data = load(f"{path}[2:4]")
    assert data.train.ids.tolist() == ["train_00002", "train_00003"]
    assert np.array_equal(data.train.images, arrays["train_images"][2:4])
    assert data.class_names == ("0", "1", "2")  # those of the whole file


def test_a_name_with_brackets_may_be_a_file(tmp_path):
    _, path = npz(tmp_path / "a[:1].npz")
    assert len(load(path).train.labels) == 6


U8, NAN = np.uint8, np.full((6, 4, 5, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"train_images": NAN}, ["train_images", "not finite", "(0, 0, 0, 0)"]),
        ({"train_images": np.zeros((6, 4, 5, 3), np.float32)}, ["train_images", "float32", "uint8 0..255"]),
        ({"train_images": np.zeros((6, 4, 5, 3), np.int64)}, ["int64", "uint8 0..255"]),
        ({"train_images": np.zeros((6, 60), U8)}, ["[6, 60]", "[N, H, W]"]),
        ({"train_images": np.zeros((5, 4, 5, 3), U8)}, ["[5, 4, 5, 3]", "labels [6]"]),
        ({"train_images": np.array(7, U8)}, ["train_images", "[]"]),
        ({"test_labels": np.array([0, 1, 2])}, ["test", "labels [3]"]),
        ({"test_labels": np.array([[0], [1]])}, ["test", "labels [2, 1]"]),
        ({"test_labels": np.array([0.0, 1.0])}, ["test_labels", "float64"]),
        ({"test_labels": np.array([True, False])}, ["test_labels", "bool"]),
        ({"test_labels": np.array([0, 3])}, ["label 3", "'test_00001'", "0..2"]),
        ({"train_labels": np.array([0, 1, 2, -1, 1, 2])}, ["label -1", "'train_00003'", "0..2"]),
        ({"train_labels": np.array([0, 1, 2, 3, 1, 2]), "class_names": np.array(["a", "b"])}, ["label 2", "0..1"]),
        ({"class_names": np.array(["a", "b", "a"])}, ["two of the class names are the same (a, b, a)"]),
        ({"test_labels": np.array([0, 2**32])}, [f"label {2**32}", "0..2"]),
        ({"train_ids": np.array(list("abcdea"))}, ["'a'", "more than once"]),
        ({"train_ids": np.array(list("abc"))}, ["ids [3]"]),
        ({"train_labels": None}, ["'train_labels'", "train_images, test_images, test_labels"]),
        ({"test_images": np.zeros((2, 5, 4, 3), U8)}, ["4x5x3", "5x4x3", "give an image_size"]),
        ({"test_images": np.zeros((2, 4, 5), U8)}, ["4x5x3", "4x5x1", "one number of channels"]),
        ({"test_images": np.zeros((0, 4, 5, 3), U8), "test_labels": np.zeros(0, int)}, ["'test'", "at least one"]),
        ({"train_images": np.zeros((0, 4, 5), U8), "train_labels": np.zeros(0, int)}, ["'train'", "at least one"]),
        ({"train_ids": np.array(list("abcdef"), object)}, ["plain arrays", "np.savez"]),
        ({"train_images": np.zeros((6, 3, 32, 32), U8)}, ["[6, 3, 32, 32]", "channels first", "[N, H, W, C]"]),
        ({"train_labels": np.array([0, 1, 2, 255, 1, 2], U8)}, ["label 255", "'train_00003'", "no 254", "ignore"]),
        ({"class_names": np.array(["a", " ", "c"])}, ["a class name is empty"]),
        ({"class_names": np.array([[97, 0x110000, 99]], np.uint32).view("<U1")[0]}, ["no characters", "store text"]),
        ({"class_names": np.array("cat")}, ["class_names is <U3 []", "[N]"]),
        ({"class_names": np.array([["a", "b", "c"]])}, ["class_names is <U1 [1, 3]", "[N]"]),
        ({"class_names": np.array([b"a", b"b", b"\xe9"])}, ["class_names", "not UTF-8", "b'\\xe9'"]),
        ({"class_names": np.array(["a", "b", "\udce9"])}, ["class name '\\udce9' is no text"]),
        ({"train_ids": np.array(["a", "b", "c", "d", "e", "\udce9"])}, ["example id '\\udce9' is no text"]),
        ({"train_ids": np.zeros(6, "M8[s]")}, ["train_ids is datetime64[s] [6]"]),
    ],
)
def test_npz_that_cannot_be_used(tmp_path, refused, changes, words):
    _, path = npz(tmp_path / "a.npz", **changes)
    refused(path, *words, name=path)


def test_npz_that_is_none(tmp_path, refused):
    refused(tmp_path / "none.npz", "no such file", name=str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("one\ntwo\n")
    refused(tmp_path / "text.npz", "np.savez", name=str(tmp_path / "text.npz"))
    _, path = npz(tmp_path / "half.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "half.npz").read_bytes()[:300])
    refused(path, "np.savez", name=path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    refused(tmp_path / "one.npz", "no .npz file", name=str(tmp_path / "one.npz"))
    os.mkfifo(tmp_path / "pipe.npz")
    refused(tmp_path / "pipe.npz", "no regular file", name=str(tmp_path / "pipe.npz"))
    (tmp_path / "dir.npz").mkdir()
    refused(tmp_path / "dir.npz", name=str(tmp_path / "dir.npz"))


@pytest.mark.parametrize("name", ["a\0b", "~nobody-of-that-name/pets", "\udce9", "~nobody-of-that-name/a.npz"])
def test_names_that_no_path_can_have(refused, name):
    refused(name=name)


def test_images_larger_than_memory(refused):
    refused("image_size", "1352 images of 1000000x1000000x1", "GiB of memory", name="digits", image_size=1_000_000)
