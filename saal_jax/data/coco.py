"""Boxes in COCO's JSON: `annotations_{split}.json` beside the folder `{split}`, or as COCO comes.

COCO's own are `annotations/instances_{split}.json`; its images lie in `{split}/` or `images/{split}/`. Classes are the
categories in the order of their ids. `iscrowd` makes a crowd; segments, areas and ids of annotations are not read.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from saal_jax.data.annotated import Annotated, Splits, corners_of, image_paths, shown, warn_of_unlabelled
from saal_jax.data.listed import named_splits
from saal_jax.errors import InputError, one_line
from saal_jax.paths import read_json

LAYOUT = "annotations_{train,test}.json and images in {train,test}/"
_PATTERNS = ("annotations_*.json", "annotations/instances_*.json")


def is_there(root: Path) -> bool:
    """Whether a folder holds such files."""
    return bool(_files(root))


def read(root: Path, split: str, test_split: str) -> tuple[Splits, list[str]]:
    """The images of the splits that are named, and the classes. Raises `InputError`."""
    files = _files(root)
    splits, categories = {}, {}
    for part in named_splits(files, split, test_split):
        splits[part], categories[files[part]] = _read(root, part, files[part])
    (first, classes), *others = categories.items()
    for path, others_classes in others:
        if others_classes != classes:
            raise InputError(f"{path}: its categories are not those of {first.name}; give both files the same list")
    return splits, [classes[number] for number in sorted(classes)]


def _files(root):
    """The files of annotations by split."""
    paths = [path for pattern in _PATTERNS for path in sorted(root.glob(pattern))]
    return {path.stem.partition("_")[2]: path for path in paths}


def _read(root, part, path):
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no COCO JSON ({one_line(error)}); write it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: no COCO JSON; write an object with images, annotations and categories")
    folder = next((place for place in (root / part, root / "images" / part) if place.is_dir()), None)
    if folder is None:
        raise InputError(f"{root}: the images of {path.name} are missing; put them into {root / part}")
    classes = {}
    for number, entry in _entries(content, "categories", path, {"id": int, "name": str}):
        if entry["id"] in classes:
            raise InputError(f"{path}: categories[{number}] has the id {entry['id']} of another; number them apart")
        classes[entry["id"]] = entry["name"]
    there = image_paths(folder)
    images: dict[int, Annotated] = {}
    names: dict[str, Annotated] = {}
    for number, entry in _entries(content, "images", path, {"id": int, "file_name": str}):
        name = PurePosixPath(entry["file_name"]).as_posix()
        here = f"{path}: images[{number}], {name!r}"
        if entry["id"] in images:
            raise InputError(f"{here}: has the id {entry['id']} of another image; number them apart")
        if name in names:
            raise InputError(f"{here}: is listed twice; remove one")
        if name not in there:
            raise InputError(f"{here}: no such image in {folder}; add it, or remove the entry")
        images[entry["id"]] = names[name] = Annotated(name, there[name], str(path), [], [], [], _size(entry, here))
    for number, entry in _entries(content, "annotations", path, {"image_id": int, "category_id": int, "bbox": list}):
        image, label = images.get(entry["image_id"]), classes.get(entry["category_id"])
        if image is None:
            raise InputError(
                f"{path}: annotations[{number}] is of image_id {entry['image_id']}, which is not among the images; "
                "correct or remove it"
            )
        here = f"{path}: annotations[{number}], image {image.name!r}"
        if label is None:
            raise InputError(
                f"{here}: category_id {entry['category_id']} is not among the categories; correct it, or add that one"
            )
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise InputError(f"{here}: iscrowd is {shown(crowd)}; write 0 or 1")
        image.corners.append(corners_of(entry["bbox"], here))
        image.classes.append(label)
        image.crowd.append(bool(crowd))
    warn_of_unlabelled(str(folder), there.keys() - names.keys())
    return names, classes


def _entries(content, key, path, types) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object of a list and its number, once its keys are of these types."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{path}: has no list {key!r}; write COCO's lists images, annotations and categories")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {key}[{number}] is {shown(entry)}; write an object")
        for name, kind in types.items():
            value = entry.get(name)
            if not isinstance(value, kind) or isinstance(value, bool):
                wanted = {int: "a whole number", str: "text", list: "a list of four numbers"}[kind]
                raise InputError(f"{path}: {key}[{number}]: {name} is {shown(value)}; write {wanted}")
        yield number, entry


def _size(entry, here):
    """Height and width, where both are said."""
    size = entry.get("height"), entry.get("width")
    if size == (None, None):
        return None
    if any(not isinstance(value, int | float) or isinstance(value, bool) or value != value // 1 for value in size):
        raise InputError(f"{here}: height and width are {shown(size)}; write whole numbers of pixels")
    return int(size[0]), int(size[1])
