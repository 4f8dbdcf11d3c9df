"""A folder of image files, in one of three layouts.

- `<split>/<class>/*.png` (or jpg), for example `train/cat/1.png`.
- `<class>/*.png`, as Caltech-101 and Caltech-256 come: one split, `all`.
- Tiny ImageNet's: `train/<class>/images/*.JPEG` and `val/images/*.JPEG`, whose classes `val/val_annotations.txt` tells.

An example's id is its file's relative name, and every split is in the order of a hash of these: any slice mixes the
classes.
"""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from saal_jax.data import images
from saal_jax.data.cache import cached, content_key
from saal_jax.data.slices import resolve
from saal_jax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
ANNOTATIONS = "val/val_annotations.txt"


def read(path: str, split: str, test_split: str, cache_dir: str | None, image_size: int | None):
    """Reads two slices of the folder at `path`: two `(images, labels, ids)` and the class names."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"{path}: no such folder; check the path")
    found = _tiny_imagenet(root, path) if (root / ANNOTATIONS).exists() else _by_class(root, path)
    if not found:
        layout = "train/<class>/*.png (or jpg) and test/<class>/*.png, or as <class>/*.png"
        raise InputError(f"{path}: no images; lay them out as {layout}")
    parts = {}
    for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest()):
        parts.setdefault(found[name][0], []).append(name)
    pair = resolve(split, test_split, {part: [len(names)] for part, names in sorted(parts.items())}, path)
    classes = sorted({found[name][1] for part, _, _ in pair[0] for name in parts[part]})
    chosen = [[name for part, start, stop in ranges for name in parts[part][start:stop]] for ranges in pair]
    unknown = [name for name in chosen[1] if found[name][1] not in classes]
    if unknown:
        known = ", ".join(classes)
        raise InputError(f"{path}: {unknown[0]} is of a class that {split} lacks ({known}); rename or add the class")
    every = chosen[0] + chosen[1]
    key = content_key(["folder, upright", str(image_size), *every], [root / name for name in every])
    (stacked,) = cached(key, cache_dir, ["images"], lambda: [_decode(root, every, image_size)])
    labels = np.array([classes.index(found[name][1]) for name in every], np.int32)
    cut = len(chosen[0])
    both = [(stacked[rows], labels[rows], np.array(every[rows])) for rows in (slice(cut), slice(cut, None))]
    return *both, classes


def _by_class(root, path):
    """The split and the class of each image, by relative name: those of its folders."""
    nested, flat = _find(root, "*/*/*", path), _find(root, "*/*", path)
    if flat and not any(name.startswith("train/") for name in nested):  # a class may hold folders that mean nothing
        return {name: ("all", name.split("/")[0]) for name in flat}
    return {name: tuple(name.split("/")[:2]) for name in nested}


def _tiny_imagenet(root, path):
    """The same of Tiny ImageNet, whose `test` has no labels and is left out."""
    try:
        lines = (root / ANNOTATIONS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read {ANNOTATIONS} ({images.one_line(error)}); unpack it again") from None
    rows = [f"{line}\t".split("\t") for line in lines]  # file, class, and the corners of a box
    classes = {f"val/images/{row[0]}": row[1] for row in rows}
    val = _find(root, "val/images/*", path)
    lone = sorted(classes.keys() ^ val)
    if lone:
        absent = "val/images" if lone[0] in classes else ANNOTATIONS
        raise InputError(f"{path}: {lone[0]} is missing in {absent}; unpack both again")
    train = {name: ("train", name.split("/")[1]) for name in _find(root, "train/*/images/*", path)}
    return train | {name: ("val", classes[name]) for name in val}


def _find(root, pattern, path):
    """The relative names of the images that fit `pattern`, hidden ones left out."""
    found = [p.relative_to(root) for p in root.glob(pattern) if p.suffix.lower() in SUFFIXES]
    for name in map(str, found):
        if "\\udc" in ascii(name):  # bytes that are no text
            raise InputError(f"{path}: the name of the file {name!a} is not UTF-8; rename it")
    return [p.as_posix() for p in found if not any(part.startswith(".") for part in p.parts)]


def _decode(root, names, image_size):
    channels = 1 if all(_is_grey(root / name) for name in names) else 3
    decoded = (images.decode(root / name, channels, image_size, str(root / name), upright=True) for name in names)
    return images.stack(decoded, names, str(root))


def _is_grey(path):
    try:
        with Image.open(path) as image:  # reads the header only
            return image.mode in ("1", "L", "LA")
    except OSError:
        return True  # the decoder will say what is wrong with it
