"""Images with boxes around their objects: find the source, read it, check it."""

from typing import Any

import numpy as np

from saal_jax.boxes import Boxes
from saal_jax.data import coco, digits_detection, voc, yolo
from saal_jax.data.annotated import boxes_of
from saal_jax.data.cache import content_key
from saal_jax.data.listed import chosen, images_of, sizes_of
from saal_jax.data.load import Data, checked, parse
from saal_jax.data.places import BOXES, folder_of, missing
from saal_jax.errors import InputError
from saal_jax.typing import ImageSize

FORMATS: tuple[Any, ...] = (coco, voc, yolo)


def load_boxes(
    name: str,
    *,
    split: str = "train",
    test_split: str = "test",
    data_dir: str | None = None,
    cache_dir: str | None = None,
    image_size: ImageSize = None,
    max_resident: int | None = None,
) -> Data:
    """Loads a data set of images and the boxes around their objects.

    Args:
      name: `digits_detection` (made here of scikit-learn's digits), a path to a folder, the name of one in `data_dir`
        (`bccd`), or a TFDS name with the feature `objects` (`voc/2007`, `coco/2017`). A slice may follow: `bccd[:40%]`.
      split, test_split, data_dir, cache_dir, image_size, max_resident: as for `saal_jax.data.load`.

    A folder is of one of three layouts:

    - COCO: `annotations_train.json` and images in `train/`; or `annotations/instances_train.json` and images in
      `train/` or `images/train/`. Classes are the categories in the order of their ids; `iscrowd` is crowd.
    - Pascal VOC: `JPEGImages/`, `Annotations/*.xml` and `ImageSets/Main/train.txt` (without lists: one split `all`). Of
      several `VOC2007/`, `VOC2012/`, also in `VOCdevkit/`, the splits are `train2007` and so on. Corners count from one
      and belong to the box. `difficult` is crowd. Classes are lines of `classes.txt`, else all of the training split.
    - YOLO: `images/train/*` and `labels/train/*.txt` (or `train/images/`, `train/labels/`; without folders of splits:
      one split `all`), and the names of the classes in `data.yaml` or `classes.txt`.

    An example's id is the name of its image within the split, and every split is in the order of a hash of these.

    What is done with annotations that are not as they should be:

    - A box that reaches out of its image is cut at the edge; a warning counts those of more than a pixel.
    - A box that lies outside its image, has no area or a negative one, or holds NaN, infinity or what is no number; a
      class that is not listed; an image that is missing, cannot be read, is listed twice or is not of the size that its
      annotation says (as it stands, once turned by EXIF); an annotation of an image that is not listed: `InputError`.
      Of TFDS, whose records cannot be mended, boxes without area are left out, and a warning counts them.
    - An image that is listed without a box (of YOLO: with an empty file) holds no object.
    - An image that no annotation mentions is unlabelled: it is left out, and a warning counts those.

    Returns:
      `Data`, whose labels are `saal_jax.boxes.Boxes` of numpy arrays [N, K, ...], K being the largest number of boxes
      of an image in either split (1 if there are none). Corners are shares of width and height, whatever `image_size`.

    Raises:
      InputError: the data set cannot be used; the message names the file, the image and the value.
    """
    source, split = parse(name, split)
    if source == "digits_detection":
        data = digits_detection.read(split, test_split)
    elif root := folder_of(source, data_dir):
        data = _read(root, split, test_split, cache_dir, image_size, max_resident)
    elif source in BOXES:
        raise missing(source, data_dir, BOXES, coco.LAYOUT)
    else:
        from saal_jax.data import prepared_boxes

        data = prepared_boxes.read(source, split, test_split, data_dir, cache_dir, image_size, max_resident)
    return checked(source, data, split, test_split, image_size, _boxes)


def _read(root, split, test_split, cache_dir, image_size, max_resident):
    """Two `(images, boxes, ids)` of a folder, and the class names."""
    layout = next((layout for layout in FORMATS if layout.is_there(root)), None)
    if layout is None:
        raise InputError(f"{root}: holds no boxes; lay it out as " + ", or as ".join(each.LAYOUT for each in FORMATS))
    splits, class_names = layout.read(root, split, test_split)
    paths = {part: {name: image.path for name, image in images.items()} for part, images in splits.items()}
    train, test = chosen(paths, split, test_split, str(root))
    images = [splits[part][name] for part, name in train + test]
    names, files = [image.name for image in images], [image.path for image in images]
    key = content_key(["boxes", str(image_size), *names], files)
    sizes = sizes_of(files, key, cache_dir)
    boxes = boxes_of(images, sizes, class_names, str(root))
    stacked = images_of(files, names, str(root), key, cache_dir, image_size, max_resident)
    both = (slice(len(train)), slice(len(train), None))
    return *(
        (stacked[rows], Boxes(*(part[rows] for part in boxes)), np.array(names[rows])) for rows in both
    ), class_names


def _boxes(split, num_classes, where):
    return split.labels
