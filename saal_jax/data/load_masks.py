"""Images with a class for each pixel: find the source, read it, check it."""

import numpy as np

from saal_jax.data import mask_files, mask_folders, shapes
from saal_jax.data.cache import cached, cached_on_disk, content_key
from saal_jax.data.image_files import height_and_width
from saal_jax.data.listed import chosen, images_of, sizes_of
from saal_jax.data.load import Data, checked, parse
from saal_jax.data.on_disk import blocks
from saal_jax.data.places import MASKS, folder_of, missing
from saal_jax.engine.memory import on_disk
from saal_jax.errors import warn
from saal_jax.typing import ImageSize


def load_masks(
    name: str,
    *,
    split: str = "train",
    test_split: str = "test",
    data_dir: str | None = None,
    cache_dir: str | None = None,
    image_size: ImageSize = None,
    max_resident: int | None = None,
) -> Data:
    """Loads a data set of images and masks, which hold a class for each pixel.

    Args:
      name: `shapes` (made here), a path to a folder, or the name of one in `data_dir` (`camvid`). A slice may follow:
        `camvid[:40%]`.
      split, test_split, data_dir, cache_dir, image_size, max_resident: as for `saal_jax.data.load`. A resized mask
        takes the class of the pixel that a new pixel's centre lies in. Masks lie where their images do: on disk if
        those are too large.

    A folder is of one of three layouts:

    - `train/images/*` and `train/labels/NAME.png` (or `images/train/`, `labels/train/`; without folders of splits: one
      split `all`), and `classes.txt`: the name of a class on each line, in the order of the indices, or its name and
      colour, `road 128 64 128` (with commas: `classes.csv`, `class_dict.csv`). A colour called `void` or `unlabelled`
      is void. Where there is an `images.csv` with columns `name`, `split` and `role`, each role is a split too: of
      camvid `source`, `pool`, `source_test` and `target_test`.
    - Cityscapes: `leftImg8bit/train/CITY/*` and `gtFine/train/CITY/*_labelTrainIds.png`, or `*_labelIds.png`, of which
      all but the 19 classes of training are void.
    - Pascal VOC: `JPEGImages/`, `SegmentationClass/` and `ImageSets/Segmentation/train.txt`; years as for `load_boxes`.
      Classes are VOC's 20 behind `background`, or lines of `classes.txt`.

    A mask is a PNG: of one channel or of a palette, whose values are the classes 0..C-1, or 255 for void (the colours
    of a palette are not looked at); or RGB, where the classes have colours. Another value or colour, a mask of another
    size than its image (as it stands, once turned by EXIF), another format, and an image without a mask or a mask
    without an image are refused. A warning names the classes that no pixel of the training split has.

    An example's id is the name of its image within the split, and every split is in the order of a hash of these.

    Returns:
      `Data`, whose labels are uint8 [N, H, W]: 0..C-1, or 255 for void, which is neither trained on nor counted.

    Raises:
      InputError: the data set cannot be used; the message names the file and the value.
    """
    source, split = parse(name, split)
    if source == "shapes":
        data = shapes.read(split, test_split)
    elif root := folder_of(source, data_dir):
        data = _read(root, split, test_split, cache_dir, image_size, max_resident)
    else:
        raise missing(source, data_dir, MASKS, mask_folders.LAYOUT)
    shape = height_and_width(image_size)

    def masks(part, num_classes, where):
        """As large as the images will be."""
        if shape is None or shape == part.labels.shape[1:]:
            return part.labels
        return np.stack([mask_files.nearest(mask, shape) for mask in part.labels])

    data = checked(source, data, split, test_split, image_size, masks)
    _warn_of_absent(source, split, data)
    return data


def _read(root, split, test_split, cache_dir, image_size, max_resident):
    """Two `(images, masks, ids)` of a folder, and the class names."""
    splits, table = mask_folders.read(root, split, test_split)
    paths = {part: {name: image for name, (image, _) in files.items()} for part, files in splits.items()}
    train, test = chosen(paths, split, test_split, str(root))
    names = [name for _, name in train + test]
    files, masks = zip(*(splits[part][name] for part, name in train + test), strict=True)
    key = content_key(["masks", str(image_size), *names], files)
    stacked = images_of(files, names, str(root), key, cache_dir, image_size, max_resident)
    key = content_key(["labels", key, str(table.of_index.tolist()), str(table.of_colour)], masks)
    sizes = sizes_of(files, key, cache_dir).tolist()

    def decoded():
        for path, size in zip(masks, sizes, strict=True):
            yield mask_files.decode(path, table, tuple(size), image_size)[None]

    if on_disk(stacked):  # then they are as large
        labels = cached_on_disk(key, cache_dir, len(names), decoded)
    else:
        (labels,) = cached(key, cache_dir, ["labels"], lambda: [np.concatenate([*decoded()])])
    both = (slice(len(train)), slice(len(train), None))
    return *((stacked[rows], labels[rows], np.array(names[rows])) for rows in both), table.names


def _warn_of_absent(source, split, data):
    """Names the classes that no pixel of the training split has: are the masks what they are thought to be?"""
    counts = np.zeros(256, int)
    for block in blocks(data.train.labels):
        counts += np.bincount(block.ravel(), minlength=256)
    absent = [name for name, count in zip(data.class_names, counts, strict=False) if not count]
    if absent:
        listed = ", ".join(absent[:8]) + ", ..." * (len(absent) > 8)
        warn(f"{source}, {split}: no pixel is of the classes {listed}")
