"""Folders of image files."""

import numpy as np
import pytest
from PIL import Image

from saal_jax.data import load

RNG = np.random.default_rng(0)


def picture(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six training and four test images of cats and dogs: `{relative name: pixels}`, PNG but for one JPEG."""
    pictures = {}
    for split, n in (("train", 3), ("test", 2)):
        for label in ("dog", "cat"):
            for i in range(n):
                pictures[f"{split}/{label}/{i}.png"] = picture(6, 5, 3)
    for name, pixels in pictures.items():
        save(tmp_path / "pets" / name, pixels)
    return tmp_path / "pets", pictures


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def read(tmp_path):
    return lambda path, **arguments: load(str(path), cache_dir=str(tmp_path / "cache"), **arguments)


def test_pixels_labels_and_ids(folder, read):
    path, pictures = folder
    data = read(path)
    assert data.class_names == ("cat", "dog")
    for split in ("train", "test"):
        got = getattr(data, split)
        assert sorted(got.ids) == sorted(name for name in pictures if name.startswith(split))
        for image, label, name in zip(*got, strict=True):
            assert np.array_equal(image, pictures[name])
            assert data.class_names[label] == name.split("/")[1]


def test_order_is_of_names_not_of_directories_and_mixes_classes(folder, read, tmp_path):
    path, pictures = folder
    for i in range(40):
        save(path / f"train/{'cat' if i < 20 else 'dog'}/more{i}.png", picture(6, 5, 3))
    whole, part = read(path), read(path, split="train[:50%]")
    assert part.train.ids.tolist() == whole.train.ids[:23].tolist()
    assert np.array_equal(part.train.images, whole.train.images[:23])
    assert part.class_names == ("cat", "dog") and 5 < part.train.labels.sum() < 18
    (path / "train/cat/more0.png").unlink()
    fewer = [name for name in whole.train.ids if name != "train/cat/more0.png"]
    assert read(path).train.ids.tolist() == fewer


def test_jpeg_and_capital_suffixes(folder, read):
    path, _ = folder
    save(path / "train/cat/a.JPG", np.full((6, 5, 3), 77, np.uint8))
    save(path / "train/cat/b.jpeg", np.full((6, 5, 3), 99, np.uint8), quality=95)
    train = read(path).train
    by_id = dict(zip(train.ids.tolist(), train.images, strict=True))
    assert abs(by_id["train/cat/a.JPG"].astype(int) - 77).max() <= 2
    assert abs(by_id["train/cat/b.jpeg"].astype(int) - 99).max() <= 2


def test_all_grey_is_one_channel(tmp_path, read):
    pixels = {f"{split}/{label}/0.png": picture(4, 4) for split in ("train", "test") for label in "ab"}
    for name, image in pixels.items():
        save(tmp_path / "grey" / name, image)
    data = read(tmp_path / "grey")
    for split in data[:2]:
        for image, name in zip(split.images, split.ids, strict=True):
            assert image.shape == (4, 4, 1) and np.array_equal(image[..., 0], pixels[name])


def test_one_coloured_file_makes_all_rgb(folder, read):
    path, _ = folder
    grey = picture(6, 5)
    save(path / "test/cat/grey.png", grey)
    Image.fromarray(picture(6, 5, 4)).save(path / "test/cat/transparent.png")
    Image.fromarray(np.full((6, 5, 3), 50, np.uint8)).convert("P").save(path / "test/cat/palette.png")
    test = read(path).test
    by_id = dict(zip(test.ids.tolist(), test.images, strict=True))
    assert np.array_equal(by_id["test/cat/grey.png"], np.repeat(grey[..., None], 3, -1))
    assert test.images.shape == (7, 6, 5, 3)


def test_other_files_are_no_images(folder, read):
    path, _ = folder
    digest = read(path).digest
    (path / "README.md").write_text("pets")
    (path / "train" / "notes.txt").write_text("cats")
    (path / "train" / "cat" / "notes.txt").write_text("cats")
    (path / "train" / ".hidden").mkdir()
    save(path / "train" / ".hidden" / "0.png", picture(6, 5, 3))
    (path / "train" / "cat" / ".DS_Store.png").write_text("")
    assert read(path).digest == digest


def test_how_a_folder_is_named(folder, read, monkeypatch):
    path, _ = folder
    digest = read(path).digest
    monkeypatch.chdir(path.parent)
    for name in ("pets", "./pets", "../" + path.parent.name + "/pets", "pets/"):
        assert read(name).digest == digest
    assert len(read("pets[:2]").train.labels) == 2
    assert len(read("./pets:train[50%:]").train.labels) == 3
    monkeypatch.setenv("HOME", str(path.parent))
    assert read("~/pets").digest == digest


def test_a_data_set_wins_over_a_folder_of_its_name(folder, tmp_path, read, monkeypatch, refused):
    """A working directory that happens to hold `mnist/` must not change what `mnist` means."""
    path, _ = folder
    path.rename(tmp_path / "mnist")
    monkeypatch.chdir(tmp_path)
    refused("tfds build mnist", name="mnist", data_dir=str(tmp_path / "none"))
    assert len(read("./mnist").train.labels) == 6


def test_truncated_image(folder, refused, tmp_path):
    path, _ = folder
    for name, options in (("train/cat/half.png", {}), ("train/cat/half.jpg", {"quality": 90})):
        save(path / name, picture(6, 5, 3), **options)
        whole = (path / name).read_bytes()
        for cut in (len(whole) // 2, 10, 0):
            (path / name).write_bytes(whole[:cut])
            refused(path / name, "cannot read the image", name=str(path), cache_dir=str(tmp_path / "cache"))
        (path / name).unlink()


def test_images_of_different_shapes(folder, refused, read):
    path, _ = folder
    save(path / "test/dog/9.png", picture(5, 6, 3))
    refused(path, "'test/dog/9.png'", "5x6x3", "6x5x3", name=str(path))


def test_more_than_8_bits(folder, refused):
    path, _ = folder
    Image.fromarray(np.full((6, 5), 60000, np.uint16)).save(path / "train/cat/deep.png")
    refused(path / "train/cat/deep.png", "8 bits", name=str(path))


def test_a_class_that_training_lacks(folder, refused):
    path, _ = folder
    save(path / "test/Cat/0.png", picture(6, 5, 3))
    refused("test/Cat/0.png", "cat, dog", name=str(path))


def test_unreadable_file(folder, refused):
    path, _ = folder
    name = path / "train/cat/9.png"
    name.symlink_to(path / "train/cat/none.png")
    refused(name, "cannot be read", name=str(path))
    name.unlink()
    name.mkdir()
    refused(name, "cannot be read", name=str(path))


def test_bad_folders(folder, tmp_path, refused):
    path, _ = folder
    refused(tmp_path / "none", "no such folder", name=str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "train/<class>/*.png", name=str(tmp_path / "empty"))
    refused("'valid'", "test (4 examples), train (6 examples)", name=str(path), split="valid")
    refused("share", name=str(path), test_split="train[:1]")
