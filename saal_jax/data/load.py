"""Every image comes in here: find its source, read it, check it."""

import hashlib
import math
import os
import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from saal_jax.data.image_files import resize
from saal_jax.data.on_disk import blocks
from saal_jax.errors import InputError
from saal_jax.paths import user_path
from saal_jax.typing import ImageSize


class Split(NamedTuple):
    """Some labelled images: `images` uint8 [N, H, W, C], in memory or on disk; `labels` int32 [N], or what
    `load_boxes` and `load_masks` return; `ids` str [N], unique and stable.
    """

    images: Any
    labels: Any
    ids: np.ndarray


class Data(NamedTuple):
    """A data set: two splits, the class names by label, and `digest` (hex), a fingerprint of both splits' content."""

    train: Split
    test: Split
    class_names: tuple[str, ...]
    digest: str


def load(
    name: str,
    *,
    split: str = "train",
    test_split: str = "test",
    data_dir: str | None = None,
    cache_dir: str | None = None,
    image_size: ImageSize = None,
    max_resident: int | None = None,
) -> Data:
    """Loads a data set into memory, or maps it from the disk.

    Args:
      name: `digits`, a path to an `.npz` file (`train_images`, `train_labels`, `test_images`, `test_labels` and
        optionally `train_ids`, `test_ids`, `class_names`), a path to a folder of images (see below), or a TFDS name
        such as `cifar10`, `emnist/balanced` or `mnist:3.0.1`. A slice may follow: `cifar10[:40%]` or
        `cifar10:train[:40%]`. A registered TFDS name is taken before a folder of that name in the working directory:
        write `./name` for the folder.
      split: which examples to train on, in TFDS's slicing language (`train[:40%]`, `train+validation`).
      test_split: which examples to test on; may not share an example with `split`.
      data_dir: where prepared TFDS data sets lie; `None` is TFDS's default. `cifar10`, `cifar100`, `svhn_cropped` and
        `fashion_mnist` are downloaded and prepared here on first use.
      cache_dir: where decoded images are kept; `None` is `~/.cache/saal_jax`.
      image_size: resizes every image to `image_size` x `image_size` pixels, or to those of a pair `(height, width)`,
        each axis by its own factor (bilinear with antialiasing, no crop); `None` leaves them as they are, and then they
        must be of one shape.
      max_resident: where the images of a split (of a folder: of both) take more bytes than that, they are kept
        uncompressed in `cache_dir` and stay there: `images` is then an array on disk, of which `images[positions]`
        reads (an `np.memmap`, or several). `None` reads all into memory. The digits always are.

    A folder holds images as `train/<class>/*` and `test/<class>/*`. Without splits, as `<class>/*`, it is one split in
    mixed order: `split="all[:80%]", test_split="all[80%:]"`. So come Caltech-101 and Caltech-256; each of their folders
    is a class, `257.clutter` too: remove the folder, and the class is gone. Folders below a class's are read too. Or it
    is Tiny ImageNet as published, with the splits `train` and `val`; its `test` has no labels. Warnings name what is
    left out: files that are no images, and classes without any.

    Images are PNG, JPEG, WebP, TIFF or BMP files, or the first frame of GIF files; turned as their EXIF orientation
    says, transparency laid over white, 16-bit grey divided by 257 (in colour the upper 8 of 16 bits are kept). All are
    of one channel where all are stored as grey (a palette is colour, whatever is in it), else RGB.

    Returns:
      `Data`. The same images, labels and ids give the same digest, whatever they were read from.

    Raises:
      InputError: the data set, split or content cannot be used; the message says what, where and how to correct it.
    """
    # Each source's own imports are paid for by those who use it.
    from saal_jax.data import digits, folder, npz

    source, split = parse(name, split)
    if source == "digits":
        data = digits.read(split, test_split)
    elif source.endswith(".npz"):
        data = npz.read(source, split, test_split, cache_dir, image_size, max_resident)
    elif is_folder(source):
        data = folder.read(source, split, test_split, cache_dir, image_size, max_resident)
    else:
        from saal_jax.data import prepared

        data = prepared.read(source, split, test_split, data_dir, cache_dir, image_size, max_resident)
    return checked(source, data, split, test_split, image_size, _classes)


def checked(
    source: str, data: Any, split: str, test_split: str, image_size: ImageSize, checked_labels: Callable
) -> Data:
    """`Data` of what a reader returned: two `(images, labels, ids)` and the class names.

    `checked_labels(split, num_classes, where)` are the labels of a `Split`, as they are stored. Raises `InputError`.
    """
    class_names = tuple(data[2])
    _check_names(source, class_names)
    parts = []
    for part, spec in zip(map(Split._make, data[:2]), (split, test_split), strict=True):
        where = f"{source}, {spec}"
        if not math.prod(part.images.shape):
            raise InputError(f"{where}: images of shape {_shape(part)} hold nothing; store [N, H, W, C]")
        labels = checked_labels(part, len(class_names), where)
        _check_ids(part.ids, where)
        parts.append(part._replace(images=resize(part.images, image_size), labels=labels))
    train, test = parts
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = f"{_shape(train)} in {split} but {_shape(test)} in {test_split}"
        alike = train.images.shape[3] == test.images.shape[3]
        remedy = "give an image_size, to resize all to one shape" if alike else "store them with one number of channels"
        raise InputError(f"{source}: images are {shapes}; {remedy}")
    return Data(train, test, class_names, _digest(train, test))


def parse(name: str | os.PathLike, split: str) -> tuple[str, str]:
    """`cifar10:train[:40%]` -> (`cifar10`, `train[:40%]`). Raises `InputError`."""
    name = os.fspath(name)
    user_path(name)  # refuses what no path can be
    match = re.fullmatch(r"(.+?)(?::([A-Za-z][\w-]*))?(\[[^\[\]]*\])", name)
    if os.path.exists(name) or not match:
        return name, split
    source, named, part = match.groups()
    if "[" in split or "+" in split or (named and split not in ("train", named)):
        raise InputError(f"{name!r} and split={split!r} both say which examples to train on; give only one of them")
    return source, (named or split) + part


def is_folder(source: str) -> bool:
    """Whether the name is that of a folder; not if TFDS knows it too."""
    if source.startswith((".", "/", "~")) or source.endswith("/"):
        return True
    if not os.path.isdir(source):
        return False
    from saal_jax.data import prepared

    return source not in prepared.known_names()


def _check_names(source, class_names):
    seen: dict[str, str] = {}
    for name in class_names:
        _check_text(f"{source}: the class name", name)
        look = unicodedata.normalize("NFC", name).strip()
        if not look:
            raise InputError(f"{source}: a class name is empty; give it a name")
        if look in seen:
            same = "the same" if seen[look] == name else f"alike to the eye, {seen[look]!a} and {name!a}"
            raise InputError(f"{source}: two of the class names are {same} ({', '.join(class_names)}); rename one")
        seen[look] = name


def _check_text(what, text):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} {text!a} is no text that can be written; rename it") from None


def _classes(split, num_classes, where):
    """One class for each image."""
    wrong = np.flatnonzero((split.labels < 0) | (split.labels >= num_classes))
    if wrong.size:
        value, example = split.labels[wrong[0]], split.ids[wrong[0]]
        valid = f"0..{num_classes - 1}"
        raise InputError(f"{where}: label {value} of example {str(example)!r} is outside {valid}; correct or remove it")
    return split.labels.astype(np.int32)


def _check_ids(ids, where):
    for example in ids.tolist():
        _check_text(f"{where}: the example id", example)
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        twice = values[counts > 1][0]
        raise InputError(f"{where}: example id {str(twice)!r} occurs more than once; make the ids unique")


def _shape(split):
    return "x".join(map(str, split.images.shape[1:]))


def _digest(*splits):
    content = hashlib.sha256()
    for split in splits:
        content.update(repr(split.images.shape).encode())
        for block in blocks(split.images):
            content.update(np.ascontiguousarray(block).data)
        for labels in jax.tree.leaves(split.labels):
            if labels.ndim > 1:
                content.update(repr((labels.shape, labels.dtype.str)).encode())
            for block in blocks(labels):
                content.update(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).data)
        content.update(repr(split.ids.tolist()).encode())
    return content.hexdigest()
