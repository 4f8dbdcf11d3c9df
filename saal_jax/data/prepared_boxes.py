"""Boxes of TFDS's data sets of detection, such as `voc/2007` and `coco/2017`."""

import io
from functools import partial

import numpy as np
import tensorflow_datasets as tfds

from saal_jax.boxes import Boxes, padded
from saal_jax.data import image_files, prepared
from saal_jax.data.annotated import Annotated, boxes_of
from saal_jax.data.slices import resolve
from saal_jax.errors import InputError, warn
from saal_jax.typing import ImageSize

_CROWD = ("is_crowd", "is_difficult")  # of an object, as COCO and VOC have it


def read(
    name: str,
    split: str,
    test_split: str,
    data_dir: str | None,
    cache_dir: str | None,
    image_size: ImageSize,
    max_resident: int | None,
):
    """Reads `name` from `data_dir`: two `(images, boxes, ids)` and the class names. Raises `InputError`."""
    builder = prepared.open_builder(name, data_dir, others=("digits_detection", "bccd", "neu_det", "cards"))
    objects = _objects(builder)
    names = objects["label"].names
    crowd = next((key for key in _CROWD if key in objects), None)
    kind = prepared.Kind(
        ("image", "objects"), Boxes._fields, partial(_arrays, class_names=names, crowd=crowd), "image/filename"
    )
    lengths = {part: info.shard_lengths for part, info in builder.info.splits.items()}
    pair = resolve(split, test_split, lengths, name)
    parts = [prepared.read_ranges(builder, kind, wanted, cache_dir, image_size, max_resident) for wanted in pair]
    most = max(part[2].shape[1] for part in parts)  # the largest number of boxes in either
    train, test = ((images, padded(Boxes(*boxes), most), ids) for images, *boxes, ids in parts)
    return train, test, names


def _objects(builder):
    """The feature that holds the boxes of an image."""
    features = builder.info.features
    try:
        image, objects = features["image"], features["objects"].feature
        fits = isinstance(objects["bbox"], tfds.features.BBoxFeature)
        fits &= isinstance(objects["label"], tfds.features.ClassLabel) and isinstance(image, tfds.features.Image)
    except (AttributeError, KeyError, TypeError):
        fits = False
    if not fits or image.np_dtype != np.uint8 or image.shape[-1] not in image_files.MODES:
        raise InputError(
            f"{builder.info.full_name} is no data set of 8-bit images with objects, each of a bbox and a label; choose "
            "another"
        )
    return objects


def _arrays(records, where, class_names, crowd):
    """The boxes of all records; those without area are left out, as nobody can mend a record."""
    images, sizes, flat = [], [], []
    for record, example in records:
        size = image_files.size_of(io.BytesIO(record["image"]), f"{where}, example {example!r}")
        objects = record["objects"]
        corners = np.asarray(objects["bbox"], float).reshape(-1, 4)[:, [1, 0, 3, 2]]  # y is first in TFDS
        if not np.isfinite(corners).all():
            value = corners[~np.isfinite(corners).all(1)][0].tolist()
            raise InputError(f"{where}: image {example!r}: box {value} is not finite; prepare it again")
        solid = (corners[:, :2] < corners[:, 2:]).all(1)
        flat += [example] * int((~solid).sum())
        labels = np.asarray(objects["label"], int)[solid]
        names = [class_names[label] if 0 <= label < len(class_names) else str(label) for label in labels.tolist()]
        crowds = np.asarray(objects[crowd], bool)[solid] if crowd else np.zeros(len(labels), bool)
        images.append(Annotated(example, None, where, corners[solid].tolist(), names, crowds.tolist(), in_shares=True))
        sizes.append(size)
    if flat:
        warn(f"{where}: {len(flat)} boxes without area left out; the first in {flat[0]!r}")
    return list(boxes_of(images, np.array(sizes), class_names, where))
