"""Boxes of TFDS directories: as VOC and COCO are prepared."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from saal_jax.data import load_boxes
from saal_jax.engine.memory import on_disk
from saal_jax.errors import InputError

from . import custom, drawn
from .drawn import BOXES, CLASSES, HEIGHT, WIDTH


def features(crowd="is_difficult", **more):
    thing = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=CLASSES)}
    thing |= {crowd: np.bool_} if crowd else {}
    return {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "image/filename": tfds.features.Text(),
        "objects": tfds.features.Sequence(thing),
        **more,
    }


def example(name, boxes, crowd="is_difficult"):
    pixels = np.random.default_rng([*name.encode()]).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    objects = []
    for label, x, y, w, h, is_crowd in boxes:
        box = tfds.features.BBox(y / HEIGHT, x / WIDTH, (y + h) / HEIGHT, (x + w) / WIDTH)
        objects.append({"bbox": box, "label": label} | ({crowd: is_crowd} if crowd else {}))
    return {"image": custom.encoded(pixels), "image/filename": name, "objects": objects}


def write(root, splits=BOXES, crowd="is_difficult", name="pets", config=None):
    examples = {split: [example(*pair, crowd) for pair in images.items()] for split, images in splits.items()}
    custom.prepare(root, name, features(crowd), examples, keys=None, config=config)
    return str(root)


@pytest.fixture
def read(tmp_path):
    return lambda name="pets", **arguments: load_boxes(
        name, data_dir=str(tmp_path / "tfds"), cache_dir=str(tmp_path / "cache"), **arguments
    )


def assert_as_drawn(data, splits=BOXES):
    for split, images in zip(data[:2], splits.values(), strict=True):
        assert sorted(split.ids.tolist()) == sorted(images)
        for row, name in enumerate(split.ids.tolist()):
            np.testing.assert_allclose(drawn.drawn(split.labels, row), drawn.expected(images[name]), atol=2**-22)


@pytest.mark.parametrize("crowd", ["is_difficult", "is_crowd"])
def test_boxes_images_and_ids(tmp_path, read, crowd):
    splits = BOXES | {"test": {"e.png": [("cat", 0, 0, 4, 5, True), ("dog", 2, 3, 4, 5, False)]}}
    write(tmp_path / "tfds", splits, crowd)
    data = read()
    assert data.class_names == tuple(CLASSES)
    assert_as_drawn(data, splits)
    assert data.train.labels.corners.shape == (4, 3, 4) and data.test.labels.corners.shape == (1, 3, 4)
    again, mapped = read(), read(max_resident=100)
    assert again.digest == mapped.digest == data.digest and on_disk(mapped.train.images)
    assert_as_drawn(mapped, splits)


def test_slices_and_sizes(tmp_path, read):
    write(tmp_path / "tfds", crowd=None)
    whole, part = read(image_size=(6, 4)), read("pets:train[1:3]", image_size=(6, 4))
    assert part.train.images.shape == (2, 6, 4, 3) and part.train.ids.tolist() == whole.train.ids[1:3].tolist()
    for row, name in enumerate(part.train.ids.tolist()):
        np.testing.assert_allclose(drawn.drawn(part.train.labels, row), drawn.expected(BOXES["train"][name]), atol=1e-6)


def test_boxes_without_area_are_left_out(tmp_path, read):
    flat = {"e.png": [("cat", 3, 3, 0, 4, False), ("dog", 2, 3, 4, 5, False)]}
    write(tmp_path / "tfds", BOXES | {"test": flat})
    with pytest.warns(UserWarning, match=r"pets.*: 1 boxes without area left out; the first in 'e.png'") as said:
        data = read()
    assert {warning.filename for warning in said} == {__file__}
    np.testing.assert_allclose(drawn.drawn(data.test.labels, 0), drawn.expected(flat["e.png"][1:]), atol=1e-6)


def test_images_are_refused_where_there_are_no_objects(tmp_path, read):
    plain = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(names=["a"])}
    row = {"image": custom.encoded(custom.flat(1)), "label": 0}
    custom.prepare(tmp_path / "tfds", "pets", plain, {"train": [row], "test": [row]})
    with pytest.raises(InputError, match="no data set of 8-bit images with objects, each of a bbox and a label"):
        read()


def test_names(tmp_path, read):
    with pytest.raises(
        InputError, match="voc/2007 is not prepared in .*tfds build voc/2007 --file_format=array_record"
    ):
        read("voc/2007")
    with pytest.raises(InputError, match="did you mean neu_det"):
        read("neu_dett")
    write(tmp_path / "tfds", name="voc", config="2007")  # a folder of TFDS, where others would hold annotations
    assert_as_drawn(read("voc/2007"))
    assert_as_drawn(read("voc/2007:1.0.0"))
