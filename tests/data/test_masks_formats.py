"""The same masks are read from every layout, and each way to write a label."""

import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saal_jax.data import load_masks, mask_files
from saal_jax.engine.memory import on_disk
from saal_jax.errors import InputError

from . import drawn

NAMES = [f"class {i}" for i in range(19)]
SPLITS = {"train": list("abcd"), "test": list("ef")}


def mask(name, shape=(12, 16)):
    """Classes 0..18 and void, by the name of the image."""
    values = np.random.default_rng([*name.encode()]).integers(0, 20, shape, np.uint8)
    return np.where(values == 19, 255, values).astype(np.uint8)


def plain(root):
    for split, names in SPLITS.items():
        for name in names:
            drawn.save(root / split / "images" / f"{name}.png")
            save(root / split / "labels" / f"{name}.png", mask(name))
    drawn.write(root / "classes.txt", "\n".join(NAMES))


def by_split(root):
    for split, names in SPLITS.items():
        for name in names:
            drawn.save(root / "images" / split / f"{name}.png")
            save(root / "labels" / split / f"{name}.png", mask(name), kind="P")
    drawn.write(root / "classes.txt", "\r\n".join(NAMES))


def coloured(root):
    plain(root)
    colours = np.random.default_rng(0).permutation(2**24)[:20].astype(np.uint32)
    table = [f"{name} {c >> 16} {c >> 8 & 255} {c & 255}" for name, c in zip([*NAMES, "void"], colours, strict=True)]
    drawn.write(
        root / "classes.txt", "\n".join(table[:5] + table[19:] + table[5:19])
    )  # where void stands is all the same
    for path in root.glob("*/labels/*.png"):
        numbers = colours[np.minimum(mask(path.stem), 19)]
        save(path, np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).astype(np.uint8))


def voc(root):
    for split, names in SPLITS.items():
        for name in names:
            drawn.save(root / "JPEGImages" / f"{name}.png")
            save(root / "SegmentationClass" / f"{name}.png", mask(name), kind="P")
        drawn.write(root / f"ImageSets/Segmentation/{split}.txt", "\n".join(names))
    drawn.write(root / "classes.txt", "\n".join(NAMES))


def save(path, values, kind=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if kind == "P":
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
        assert image.mode == "P"
    image.save(path, **options)


@pytest.fixture
def read(tmp_path):
    return lambda path, **arguments: load_masks(str(path), cache_dir=str(tmp_path / "cache"), **arguments)


def assert_as_drawn(data):
    for split, names in zip(data[:2], SPLITS.values(), strict=True):
        assert sorted(split.ids.tolist()) == [f"{name}.png" for name in names]
        assert split.labels.dtype == np.uint8 and split.labels.shape == split.images.shape[:3]
        for labels, image, name in zip(split.labels, split.images, split.ids.tolist(), strict=True):
            np.testing.assert_array_equal(labels, mask(name.removesuffix(".png")))
            assert np.array_equal(
                image, np.random.default_rng([*name.encode()]).integers(0, 256, image.shape, np.uint8)
            )


@pytest.mark.parametrize("write", [plain, by_split, coloured, voc])
def test_every_layout(tmp_path, read, write):
    write(tmp_path / "streets")
    data = read(tmp_path / "streets")
    assert data.class_names == tuple(NAMES)
    assert_as_drawn(data)
    mapped = read(tmp_path / "streets", max_resident=100)
    assert mapped.digest == data.digest and on_disk(mapped.train.images) and on_disk(mapped.train.labels)
    assert_as_drawn(mapped)


def test_one_digest_whatever_the_layout_and_another_for_another_pixel(tmp_path, read):
    digests = set()
    for write in (plain, by_split, coloured, voc):
        write(tmp_path / write.__name__)
        digests.add(read(tmp_path / write.__name__).digest)
    assert len(digests) == 1
    values = mask("e")
    values[3, 4] = 255 if values[3, 4] != 255 else 0
    save(tmp_path / "plain/test/labels/e.png", values)
    assert read(tmp_path / "plain").digest not in digests


def cityscapes(root, kind):
    """The classes as Cityscapes numbers them, or as training does."""
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    for split, names in SPLITS.items():
        for name in names:
            drawn.save(root / "leftImg8bit" / split / "ulm" / f"ulm_{name}_leftImg8bit.png")
            values = mask(name)
            if kind == "labelIds":
                values = np.append(ids, [4] * 237)[values].astype(np.uint8)  # 4 is "static", of no class
            save(root / "gtFine" / split / "ulm" / f"ulm_{name}_gtFine_{kind}.png", values)


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(tmp_path, read, kind):
    cityscapes(tmp_path / "cityscapes", kind)
    data = read(tmp_path / "cityscapes")
    assert len(data.class_names) == 19 and data.class_names[0] == "road" and data.class_names[18] == "bicycle"
    assert sorted(data.test.ids.tolist()) == ["ulm/ulm_e", "ulm/ulm_f"]
    for labels, name in zip(data.train.labels, data.train.ids.tolist(), strict=True):
        np.testing.assert_array_equal(labels, mask(name[-1]))


def test_cityscapes_of_two_kinds_is_refused(tmp_path, read):
    cityscapes(tmp_path / "cityscapes", "labelIds")
    save(tmp_path / "cityscapes/gtFine/train/ulm/ulm_a_gtFine_labelTrainIds.png", mask("a"))
    with pytest.raises(InputError, match="some masks are labelTrainIds and some labelIds only"):
        read(tmp_path / "cityscapes")


def test_voc_has_names_of_its_own(tmp_path, read):
    voc(tmp_path / "voc")
    (tmp_path / "voc/classes.txt").unlink()
    with pytest.warns(UserWarning, match="no pixel is of the classes train, tvmonitor"):
        names = read(tmp_path / "voc").class_names
    assert len(names) == 21 and names[0] == "background" and names[15] == "person"


@given(height=st.integers(1, 9), width=st.integers(1, 9), size=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_a_new_pixel_takes_the_class_its_centre_lies_in(height, width, size, tmp_path):
    values = mask("a", (height, width))
    save(tmp_path / "mask.png", values)
    got = mask_files.decode(tmp_path / "mask.png", mask_files.indexed(NAMES), (height, width), size)
    rows, columns = (  # a centre on a border belongs to the pixel behind it
        [int(Fraction(2 * i + 1, 2 * new) * old) for i in range(new)]
        for old, new in zip((height, width), size, strict=True)
    )
    np.testing.assert_array_equal(got, values[np.ix_(rows, columns)])


def grey_png(values, bits):
    """A grey PNG of fewer bits than Pillow writes."""
    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in values
    )

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_few_bits_are_not_spread_out(tmp_path, bits):
    values = (np.arange(21, dtype=np.uint8).reshape(3, 7) % min(2**bits, 19)).astype(np.uint8)
    (tmp_path / "mask.png").write_bytes(grey_png(values, bits))
    got = mask_files.decode(tmp_path / "mask.png", mask_files.indexed(NAMES), (3, 7), None)
    np.testing.assert_array_equal(got, values)


def test_sixteen_bits_hold_small_indices_too(tmp_path):
    save(tmp_path / "mask.png", mask("a").astype(np.uint16))
    got = mask_files.decode(tmp_path / "mask.png", mask_files.indexed(NAMES), (12, 16), None)
    np.testing.assert_array_equal(got, mask("a"))


def test_a_resized_set_is_resized_in_both(tmp_path, read):
    plain(tmp_path / "streets")
    data = read(tmp_path / "streets", image_size=(6, 4))
    assert data.train.images.shape == (4, 6, 4, 3) and data.train.labels.shape == (4, 6, 4)
    for labels, name in zip(data.train.labels, data.train.ids.tolist(), strict=True):
        np.testing.assert_array_equal(labels, mask(name[0])[1::2, 2::4])


def test_roles_are_splits(tmp_path, read):
    plain(tmp_path / "streets")
    rows = ["a,train,source", "b,train,source", "c,train,pool", "d,train,", "e,test,target_test", "f,test,test"]
    drawn.write(tmp_path / "streets/images.csv", "\n".join(["name,split,role", *rows]))
    data = read(tmp_path / "streets", split="source+pool", test_split="target_test")
    assert set(data.train.ids) == {"a.png", "b.png", "c.png"} and data.test.ids.tolist() == ["e.png"]
    assert set(data.train.ids.tolist()[:2]) == {"a.png", "b.png"}
    assert_as_drawn(read(tmp_path / "streets"))
    with pytest.raises(InputError, match=r"'train' and 'pool' share examples \(c.png\)"):
        read(tmp_path / "streets", test_split="pool")


def test_tables_with_commas(tmp_path, read):
    coloured(tmp_path / "streets")
    before = read(tmp_path / "streets").digest
    lines = (tmp_path / "streets/classes.txt").read_text().splitlines()
    (tmp_path / "streets/classes.txt").unlink()
    text = "name,r,g,b\n" + "\n".join(",".join(line.rsplit(maxsplit=3)) for line in lines)
    drawn.write(tmp_path / "streets/class_dict.csv", text)
    assert read(tmp_path / "streets").digest == before


def test_what_is_cached_is_of_one_table_and_one_size(tmp_path, read):
    coloured(tmp_path / "streets")
    assert read(tmp_path / "streets", image_size=5).train.labels.shape == (4, 5, 5)
    assert read(tmp_path / "streets").train.images.shape == (4, 12, 16, 3)
    before = read(tmp_path / "streets").train.labels
    path = tmp_path / "streets/classes.txt"
    first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([second, first, *rest]))
    exchanged = np.append([1, 0], np.arange(2, 256)).astype(np.uint8)
    np.testing.assert_array_equal(read(tmp_path / "streets").train.labels, exchanged[before])


def test_real_streets(real_folder, tmp_path):
    """The share of pixels of each class, as published with the data."""
    shares = {
        "source": [14.8, 23.2, 0.9, 32.9, 5.6, 11.2, 1.1, 1.7, 4.4, 0.6, 0.7, 2.9],
        "target_test": [21.5, 15.3, 0.7, 16.0, 4.9, 21.1, 0.5, 0.8, 11.0, 1.1, 0.5, 6.8],
    }
    data = load_masks(
        "camvid",
        split="source",
        test_split="target_test",
        data_dir=real_folder("camvid"),
        cache_dir=str(tmp_path),
        image_size=(60, 80),
    )
    assert data.train.images.shape == (406, 60, 80, 3) and data.test.labels.shape == (62, 60, 80)
    assert data.class_names == tuple("sky building pole road pavement tree sign fence car pedestrian bicyclist".split())
    for split, expected in zip(data[:2], shares.values(), strict=True):
        counts = np.bincount(split.labels.ravel(), minlength=256)[[*range(11), 255]]
        np.testing.assert_allclose(100 * counts / split.labels.size, expected, atol=0.15)
