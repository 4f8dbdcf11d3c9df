"""Image files that are listed by name: their order, and one array of them all, in memory or on disk."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from saal_jax.data import image_files
from saal_jax.data.cache import cached, cached_on_disk
from saal_jax.data.slices import resolve
from saal_jax.errors import InputError
from saal_jax.typing import ImageSize

_MOST_VISITS = 100  # of one folder; links from each of n folders to the next, twice, would make 2^n ways
_OF_SYSTEMS = ("@eaDir", "__MACOSX")  # thumbnails and the like that a system keeps beside a user's images


def files_below(root: Path, where: str) -> list[str]:
    """The relative names of all files in a folder and below it, links followed, hidden ones left out."""
    names: list[str] = []
    waiting: list[tuple] = [(root, "", ())]
    visits: Counter = Counter()
    while waiting:
        folder, prefix, above = waiting.pop()
        try:
            here, entries = os.stat(folder), [(entry, entry.is_dir()) for entry in os.scandir(folder)]
        except OSError as error:  # a link to itself, too
            raise InputError(f"{folder}: cannot be read ({error.strerror}); make it readable or remove it") from None
        if (here.st_dev, here.st_ino) in above:  # a link that leads back up
            continue
        visits[here.st_dev, here.st_ino] += 1
        if visits[here.st_dev, here.st_ino] > _MOST_VISITS:
            raise InputError(f"{folder}: links lead here over and over; remove some")
        for entry, is_folder in entries:
            name = prefix + entry.name
            if "\\udc" in ascii(name):  # bytes that are no text
                raise InputError(f"{where}: the name of the file {name!a} is not UTF-8; rename it")
            if is_hidden(entry.name):
                continue
            if is_folder:
                waiting.append((entry.path, f"{name}/", (*above, (here.st_dev, here.st_ino))))
            else:
                names.append(name)
    return names


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's."""
    return name.startswith(".") or name in _OF_SYSTEMS


def mixed(names: Iterable[str]) -> list[str]:
    """In the order of a hash: any slice mixes what neighbours in name have in common."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def named_splits(splits: Iterable[str], *specs: str) -> list[str]:
    """Those of the splits that the specifications name; all where they name one that does not exist."""
    there = sorted(splits)
    words = {word for spec in specs for word in re.findall(r"\w+", re.sub(r"\[.*?\]", "", spec))}
    return [name for name in there if name in words] if words <= {*there} else there


def image_and_label_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folders `images/{split}` and `labels/{split}`, or `{split}/images` and `{split}/labels`; else of `all`."""
    pairs = {path.name: (path, root / "labels" / path.name) for path in sorted(root.glob("images/*/"))}
    pairs |= {path.parent.name: (path, path.parent / "labels") for path in sorted(root.glob("*/images/"))}
    pairs = {part: pair for part, pair in pairs.items() if pair[1].is_dir()}
    if not pairs and (root / "images").is_dir() and (root / "labels").is_dir():
        pairs["all"] = root / "images", root / "labels"
    return pairs


def chosen(
    splits: dict[str, dict[str, Path]], split: str, test_split: str, where: str
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The examples `(split, name)` of two slices, out of the image files of each split by name. Raises `InputError`."""
    orders = {part: mixed(files) for part, files in splits.items()}
    pair = resolve(split, test_split, {part: [len(names)] for part, names in orders.items()}, where)
    train, test = (
        [(part, name) for part, start, stop in ranges for name in orders[part][start:stop]] for ranges in pair
    )
    of_train = {splits[part][name] for part, name in train}
    shared = [name for part, name in test if splits[part][name] in of_train]
    if shared:  # of two splits that hold the same files, such as trainval and val
        raise InputError(
            f"{where}: {split!r} and {test_split!r} share examples ({shared[0]}); choose slices that do not overlap"
        )
    return train, test


def images_of(
    files: Sequence[Path],
    names: Sequence[str],
    where: str,
    key: str,
    cache_dir: str | None,
    image_size: ImageSize,
    max_resident: int | None,
):
    """The images [N, H, W, C] of these files, grey where all are; from the cache where it has them under `key`.

    They stay on disk where they take more bytes than `max_resident`. `names` name them in errors.
    """

    def decoded(collect: Callable):
        channels = _channels(files)
        images = (image_files.decode(path, channels, image_size, str(path)) for path in files)
        return collect(images, names, where)

    if _is_large(files, image_size, max_resident):
        return cached_on_disk(key, cache_dir, len(files), lambda: decoded(image_files.blocks))
    (stacked,) = cached(key, cache_dir, ["images"], lambda: [decoded(image_files.stack)])
    return stacked


def sizes_of(files: Sequence[Path], key: str, cache_dir: str | None) -> np.ndarray:
    """Height and width of each image as it is stored, int64 [N, 2]."""
    (sizes,) = cached(f"{key}-sizes", cache_dir, ["sizes"], lambda: [np.array([*map(image_files.size_of, files)])])
    return sizes


def _is_large(files, image_size, max_resident):
    """Whether all images, if they are as large as the first, take more bytes than that."""
    if max_resident is None:
        return False
    size = len(files) * image_files.decode(files[0], 1, image_size, str(files[0])).size
    return 3 * size > max_resident and _channels(files) * size > max_resident


def _channels(files):
    return 1 if all(map(image_files.is_grey, files)) else 3
