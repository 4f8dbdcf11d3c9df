"""A folder of image files, in one of three layouts.

- `<split>/<class>/...`, for example `train/cat/1.png` or `train/cat/2024/may/1.jpg`.
- `<class>/...`, as Caltech-101 and Caltech-256 come: one split, `all`.
- Tiny ImageNet's: `train/<class>/images/*.JPEG` and `val/images/*.JPEG`, their classes in `val/val_annotations.txt`.

A class holds the images in its folder and in all folders below. The layout has splits where there is a folder
`train/<class>`, or where no folder at the top holds images of its own. An example's id is its file's relative name, and
every split is in the order of a hash of these: any slice mixes the classes.
"""

from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from saal_jax.data import image_files
from saal_jax.data.cache import content_key
from saal_jax.data.listed import files_below, images_of, is_hidden, mixed
from saal_jax.data.slices import resolve
from saal_jax.errors import InputError, one_line, warn
from saal_jax.paths import open_file, user_path
from saal_jax.typing import ImageSize

ANNOTATIONS = "val/val_annotations.txt"


def read(
    path: str, split: str, test_split: str, cache_dir: str | None, image_size: ImageSize, max_resident: int | None
):
    """Reads two slices of the folder at `path`: two `(images, labels, ids)` and the class names.

    Warns of files that are no images and of classes without any, which are left out.
    """
    root = user_path(path)
    if not root.is_dir():
        raise InputError(f"{path}: no such folder; check the path")
    places = _tiny_imagenet(root, path) if (root / ANNOTATIONS).exists() else _by_class(root, path)
    if not places:
        layout = "train/<class>/*.png and test/<class>/*.png, or as <class>/*.png"
        raise InputError(f"{path}: no images ({', '.join(image_files.SUFFIXES)}); lay them out as {layout}")
    parts: dict = {}
    for name in mixed(places):
        parts.setdefault(places[name][0], []).append(name)
    pair = resolve(split, test_split, {part: [len(names)] for part, names in sorted(parts.items())}, path)
    classes = sorted({places[name][1] for part, _, _ in pair[0] for name in parts[part]})
    chosen = [[name for part, start, stop in ranges for name in parts[part][start:stop]] for ranges in pair]
    unknown = [name for name in chosen[1] if places[name][1] not in classes]
    if unknown:
        known = ", ".join(classes)
        raise InputError(f"{path}: {unknown[0]} is of a class that {split} lacks ({known}); rename or add the class")
    every = chosen[0] + chosen[1]
    files = [root / name for name in every]
    key = content_key(["folder", str(image_size), *every], files)
    stacked = images_of(files, every, str(root), key, cache_dir, image_size, max_resident)
    labels = np.array([classes.index(places[name][1]) for name in every], np.int32)
    cut = len(chosen[0])
    both = [(stacked[rows], labels[rows], np.array(every[rows])) for rows in (slice(cut), slice(cut, None))]
    return *both, classes


def _by_class(root, path):
    """The split and the class of each image, by relative name: those of its folders."""
    files = files_below(root, path)
    folders = {name: tuple(name.split("/")[:-1]) for name in files if image_files.is_image(name)}
    shallow = any(len(above) == 1 for above in folders.values())
    nested = {above[0] for above in folders.values() if len(above) > 1}
    near = [name for name in nested if name.casefold() == "train"]
    if shallow and near and "train" not in near:
        raise InputError(f"{path}: is {near[0]} a split? Rename it to train, or lay all images out as <class>/*.png")
    depth = 1 if shallow and "train" not in nested else 2  # how many of its folders say what an image is
    taken = {name: above[:depth] for name, above in folders.items() if len(above) >= depth}
    if taken:
        _warn_of_the_rest(root, path, [name for name in files if name not in taken], set(taken.values()))
    return {name: ("all", *above)[-2:] for name, above in taken.items()}


def _warn_of_the_rest(root, path, rest, classes):
    """Counts the files that are left out by suffix, and names the classes without images."""
    if rest:
        counts = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in rest).most_common()
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts[:8]) + ", ..." * (len(counts) > 8)
        warn(f"{path}: files left out: {kinds}; the first is {min(rest)}")
    beside = {"/".join(above[:-1]) for above in classes}
    there = {entry.relative_to(root) for above in beside for entry in (root / above).iterdir() if entry.is_dir()}
    empty = sorted(str(name) for name in there if name.parts not in classes and not is_hidden(name.name))
    if empty:
        listed = ", ".join(empty[:8]) + ", ..." * (len(empty) > 8)
        warn(f"{path}: classes left out, as they have no image: {listed}")


def _tiny_imagenet(root, path):
    """The same of Tiny ImageNet, whose `test` has no labels and is left out."""
    try:
        with open_file(root / ANNOTATIONS) as file:
            lines = file.read().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read {ANNOTATIONS} ({one_line(error)}); unpack it again") from None
    rows = [f"{line}\t".split("\t") for line in lines if line.strip()]  # file, class, and the corners of a box
    classes = {f"val/images/{row[0]}": row[1] for row in rows}
    folders = {name: name.split("/")[:-1] for name in files_below(root, path) if image_files.is_image(name)}
    val = {name for name, above in folders.items() if above == ["val", "images"]}
    lone = sorted(classes.keys() ^ val)
    if lone:
        absent = "val/images" if lone[0] in classes else ANNOTATIONS
        raise InputError(f"{path}: {lone[0]} is missing in {absent}; unpack both again")
    train = {
        name: ("train", above[1])
        for name, above in folders.items()
        if len(above) == 3 and above[0] == "train" and above[2] == "images"
    }
    rest = [name for name in folders if name not in train and name not in val and not name.startswith("test/")]
    _warn_of_the_rest(root, path, rest, {("train", label) for _, label in train.values()})
    return train | {name: ("val", classes[name]) for name in val}
