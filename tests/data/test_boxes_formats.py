"""The same boxes are read from every format that holds them."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saal_jax.boxes import Boxes
from saal_jax.data import load_boxes
from saal_jax.engine.memory import on_disk
from saal_jax.errors import InputError

from . import drawn
from .drawn import BOXES, FORMATS, HEIGHT, WIDTH


@pytest.fixture
def read(tmp_path):
    return lambda path, **arguments: load_boxes(str(path), cache_dir=str(tmp_path / "cache"), **arguments)


@pytest.fixture(params=FORMATS, ids=lambda write: write.__name__)
def folder(request, tmp_path):
    request.param(tmp_path / "pets")
    return tmp_path / "pets"


def assert_as_drawn(data, splits=BOXES):
    for split, images in zip(data[:2], splits.values(), strict=True):
        assert sorted(split.ids.tolist()) == sorted(images)
        for row, name in enumerate(split.ids.tolist()):
            np.testing.assert_allclose(
                drawn.drawn(split.labels, row), drawn.expected(images[name]), rtol=0, atol=2**-22
            )


def test_boxes_images_and_ids(folder, read):
    data = read(folder)
    assert data.class_names == ("cat", "dog", "eel")
    assert_as_drawn(data)
    assert isinstance(data.train.labels, Boxes)
    corners, classes, crowd = data.train.labels
    assert (corners.shape, corners.dtype) == ((4, 3, 4), np.float32) and data.test.labels.corners.shape == (2, 3, 4)
    assert (classes.dtype, crowd.dtype) == (np.int32, bool) and not crowd.any()
    assert not corners[classes < 0].any()
    for split in data[:2]:
        for image, name in zip(split.images, split.ids.tolist(), strict=True):
            assert np.array_equal(
                image, np.random.default_rng([*name.encode()]).integers(0, 256, image.shape, np.uint8)
            )


def test_one_digest_whatever_the_format_and_another_for_another_box(tmp_path, read):
    digests = set()
    for write in FORMATS:
        write(tmp_path / write.__name__)
        digests.add(read(tmp_path / write.__name__).digest)
    assert len(digests) == 1
    for change in (("cat", 2, 3, 4, 6, False), ("dog", 2, 3, 4, 5, False), ("cat", 2, 3, 4, 5, True)):
        drawn.coco(tmp_path / "other", BOXES | {"test": BOXES["test"] | {"e.png": [change]}})
        digests.add(read(tmp_path / "other").digest)
    assert len(digests) == 4


box = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1)).flatmap(
    lambda corner: st.tuples(
        st.sampled_from(drawn.CLASSES),
        st.just(corner[0]),
        st.just(corner[1]),
        st.integers(1, WIDTH - corner[0]),
        st.integers(1, HEIGHT - corner[1]),
        st.just(False),
    )
)


@given(boxes=st.lists(st.lists(box, max_size=4), min_size=2, max_size=3), write=st.sampled_from(FORMATS))
def test_what_is_written_is_read(boxes, write, tmp_path):
    images = {f"{i}.png": drawn_boxes for i, drawn_boxes in enumerate(boxes)}
    splits = {
        "train": images | {"all.png": [(name, 0, 0, 1, 1, False) for name in drawn.CLASSES]},
        "test": BOXES["test"],
    }
    shutil.rmtree(tmp_path / "pets", ignore_errors=True)
    write(tmp_path / "pets", splits)
    assert_as_drawn(load_boxes(str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache")), splits)


def test_on_disk_and_resized_it_is_the_same(folder, read):
    whole, mapped = (read(folder, image_size=(6, 10), max_resident=size) for size in (None, 100))
    assert mapped.digest == whole.digest and on_disk(mapped.train.images) and not on_disk(whole.train.images)
    assert whole.train.images.shape == (4, 6, 10, 3)
    stored = read(folder).train  # from the same cache
    assert stored.images.shape == (4, HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(whole.train.labels.corners, stored.labels.corners)


def test_slices_are_of_a_fixed_mixed_order(folder, read):
    whole, part = read(folder), read(f"{folder}[:50%]", test_split="test[1:]")
    assert part.train.ids.tolist() == whole.train.ids[:2].tolist() != sorted(whole.train.ids)[:2]
    assert part.test.ids.tolist() == whole.test.ids[1:].tolist()
    with pytest.raises(InputError, match=r"cannot use split 'valid': .*test \(2 examples\), train \(4 examples\)"):
        read(folder, split="valid")


def test_crowd_is_that_of_coco_and_difficult_that_of_voc(tmp_path, read):
    splits = BOXES | {"test": {"e.png": [("cat", 0, 0, 4, 5, True), ("dog", 2, 3, 4, 5, False)]}}
    for write in (drawn.coco, drawn.voc):
        write(tmp_path / write.__name__, splits)
        assert_as_drawn(read(tmp_path / write.__name__), splits)


UNLABELLED = {
    drawn.coco: ("train/new.png", "train"),
    drawn.voc: ("JPEGImages/new.png", "JPEGImages"),
    drawn.yolo: ("images/train/new.png", "images/train"),
}


@pytest.mark.parametrize("write", FORMATS)
def test_images_that_nobody_has_looked_at_are_left_out(tmp_path, read, write):
    write(tmp_path / "pets")
    before = read(tmp_path / "pets").digest
    file, where = UNLABELLED[write]
    drawn.save(tmp_path / "pets" / file)
    with pytest.warns(UserWarning) as said:
        assert read(tmp_path / "pets").digest == before
    assert [str(warning.message) for warning in said] == [
        f"{tmp_path / 'pets' / where}: 1 images without annotations left out; the first is new.png"
    ]
    assert {warning.filename for warning in said} == {__file__}  # the caller's own line


def test_layouts_alike(tmp_path, read):
    """COCO's own names, YOLO's by split, and VOC without lists."""
    drawn.coco(tmp_path / "coco")
    digest = read(tmp_path / "coco").digest
    (tmp_path / "coco/annotations").mkdir()
    for split in BOXES:
        (tmp_path / f"coco/annotations_{split}.json").rename(tmp_path / f"coco/annotations/instances_{split}.json")
    assert read(tmp_path / "coco").digest == digest
    (tmp_path / "coco/images").mkdir()
    (tmp_path / "coco/train").rename(tmp_path / "coco/images/train")
    assert read(tmp_path / "coco").digest == digest
    drawn.yolo(tmp_path / "yolo")
    for split in BOXES:
        for kind in ("images", "labels"):
            (tmp_path / "roboflow" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "yolo" / kind / split).rename(tmp_path / "roboflow" / split / kind)
    drawn.write(tmp_path / "roboflow/classes.txt", "cat\ndog\neel\n")
    assert read(tmp_path / "roboflow").digest == digest
    drawn.voc(tmp_path / "voc")
    shutil.rmtree(tmp_path / "voc/ImageSets")
    data = read(tmp_path / "voc", split="all[:4]", test_split="all[4:]")
    assert sorted([*data.train.ids, *data.test.ids]) == ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]


def test_several_years_of_voc(tmp_path, read):
    for year in ("2007", "2012"):
        drawn.voc(tmp_path / "VOCdevkit" / f"VOC{year}")
    data = read(tmp_path, split="train2007+train2012[:2]", test_split="test2007")
    assert len(data.train.ids) == 6 and set(data.test.ids) == {"VOC2007/e.png", "VOC2007/f.png"}
    assert read(tmp_path / "VOCdevkit", split="train2007+train2012[:2]", test_split="test2007").digest == data.digest


def test_lists_that_share_images_are_not_used_together(tmp_path, read):
    drawn.voc(tmp_path / "pets")
    drawn.write(tmp_path / "pets/ImageSets/Main/trainval.txt", "a\nb\ne\n")
    with pytest.raises(InputError, match=r"'trainval' and 'test' share examples \(e.png\)"):
        read(tmp_path / "pets", split="trainval")
    drawn.write(tmp_path / "pets/ImageSets/Main/trainval.txt", "a\nb\n")
    with pytest.raises(InputError, match="'[ab].png' occurs more than once"):
        read(tmp_path / "pets", split="train+trainval")


def test_only_what_is_named_is_read(tmp_path, read):
    drawn.coco(tmp_path / "pets", BOXES | {"val": {"g.png": [("cat", 0, 0, 1, 1, False)]}})
    (tmp_path / "pets/annotations_val.json").write_text("{")
    assert_as_drawn(read(tmp_path / "pets"))
    with pytest.raises(InputError, match="annotations_val.json: no COCO JSON"):
        read(tmp_path / "pets", test_split="val")


def test_boxes_beyond_the_edge_are_cut(tmp_path, read):
    boxes = [("cat", -3, 2, 8, 4, False), ("dog", 10, 8, 6.5, 4.5, False)]  # the second by rounding
    drawn.coco(tmp_path / "pets", BOXES | {"test": {"e.png": boxes}})
    with pytest.warns(UserWarning) as said:
        corners = read(tmp_path / "pets").test.labels.corners[0, :2]
    np.testing.assert_allclose(corners * [16, 12, 16, 12], [[0, 2, 5, 6], [10, 8, 16, 12]], atol=1e-5)
    (message,) = [str(warning.message) for warning in said]
    assert message.startswith(f"{tmp_path / 'pets'}: 1 boxes that reach out of their image are cut; the first in ")
    assert "annotations_test.json: image 'e.png'" in message
    assert {warning.filename for warning in said} == {__file__}


def test_photos_are_measured_as_they_stand(tmp_path, read, recwarn):
    from PIL import Image

    drawn.coco(tmp_path / "pets")
    turned = Image.Exif()
    turned[0x0112] = 6
    drawn.save(tmp_path / "pets/test/e.png", (WIDTH, HEIGHT, 3), exif=turned)
    assert_as_drawn(read(tmp_path / "pets"))


def test_by_name_in_a_data_directory(tmp_path, monkeypatch):
    drawn.coco(tmp_path / "sets" / "pets")
    data = load_boxes("pets", data_dir=str(tmp_path / "sets"), cache_dir=str(tmp_path / "cache"))
    assert_as_drawn(data)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    assert load_boxes("pets[:2]", cache_dir=str(tmp_path / "cache")).train.ids.tolist() == data.train.ids[:2].tolist()
    monkeypatch.chdir(tmp_path / "sets")
    assert load_boxes("./pets", cache_dir=str(tmp_path / "cache")).digest == data.digest


def test_coco_without_sizes_or_crowds(tmp_path, read):
    drawn.coco(tmp_path / "pets")
    digest, path = read(tmp_path / "pets").digest, tmp_path / "pets/annotations_test.json"
    content = json.loads(path.read_text())
    for entry in content["images"]:
        del entry["width"], entry["height"]
    for entry in content["annotations"]:
        del entry["iscrowd"]
    path.write_text(json.dumps(content))
    assert read(tmp_path / "pets").digest == digest
