"""Folders of images and masks: with a table of classes, as Cityscapes comes, or as Pascal VOC does."""

import csv
from pathlib import Path

from saal_jax.data.annotated import by_stem, image_paths, text_of
from saal_jax.data.listed import image_and_label_folders, named_splits
from saal_jax.data.mask_files import VOID, Table, indexed, read_table
from saal_jax.data.voc import folders, lists_of
from saal_jax.errors import InputError

LAYOUT = "{train,test}/images/NAME.jpg, {train,test}/labels/NAME.png and classes.txt"
LAYOUTS = (LAYOUT, "leftImg8bit/ and gtFine/", "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/")
Pairs = dict[str, dict[str, tuple[Path, Path]]]  # image and mask by split and name

_ROLES = "images.csv"
_TABLES = ("classes.txt", "classes.csv", "class_dict.csv")
_CITYSCAPES = {  # the classes of training and their ids; all other ids are void
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
).split()


def read(root: Path, split: str, test_split: str) -> tuple[Pairs, Table]:
    """The files of the splits that are named, and the table of classes. Raises `InputError`."""
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return _cityscapes(root, split, test_split)
    if folders(root, "SegmentationClass"):
        return _voc(root, split, test_split)
    pairs = image_and_label_folders(root)
    if not pairs:
        raise InputError(f"{root}: holds no masks; lay it out as " + ", or as ".join(LAYOUTS))
    tables = [root / name for name in _TABLES if (root / name).exists()]
    if not tables:
        raise InputError(f"{root}: no names of classes; add classes.txt with one a line, in the order of the indices")
    named = pairs if (root / _ROLES).exists() else named_splits(pairs, split, test_split)
    splits = {part: _matched(*pairs[part]) for part in named}
    return splits | _by_role(root, splits), read_table(tables[0])


def _matched(images, labels):
    """The images of a folder and their masks, which have the same names but for the suffix."""
    paths, masks = by_stem(image_paths(images)), by_stem(image_paths(labels))
    for there, other, what in ((paths, masks, labels), (masks, paths, images)):
        alone = sorted(there.keys() - other.keys())
        if alone:
            kind = "mask" if what is labels else "image"
            raise InputError(f"{there[alone[0]]}: no {kind} {alone[0]!r} in {what}; add it, or remove the other")
    return {path.relative_to(images).as_posix(): (path, masks[stem]) for stem, path in paths.items()}


def _by_role(root, splits):
    """Parts of the splits by the column `role` of `images.csv`, where the folder has one."""
    path = root / _ROLES
    if not path.exists():
        return {}
    rows = list(csv.DictReader(text_of(path).splitlines()))
    if not rows or not {"name", "split", "role"} <= rows[0].keys():
        raise InputError(f"{path}: lacks one of the columns name, split, role; add it, or remove the file")
    stems = {part: by_stem({name: Path(name) for name in files}) for part, files in splits.items()}
    roles: Pairs = {}
    for number, row in enumerate(rows, 2):
        name = stems.get(row["split"], {}).get(row["name"])
        if name is None:
            raise InputError(
                f"{path}: line {number}: no image {row['name']!r} in split {row['split']!r}; correct the row"
            )
        if row["role"] in splits and row["role"] != row["split"]:
            raise InputError(f"{path}: line {number}: role {row['role']!r} is another split's name; rename it")
        if row["role"]:
            roles.setdefault(row["role"], {})[name.as_posix()] = splits[row["split"]][name.as_posix()]
    return {role: files for role, files in roles.items() if role not in splits}


def _cityscapes(root, split, test_split):
    """Names such as `aachen/aachen_000000_000019`; masks of training ids where there are such, else of ids."""
    places = {path.name: path for path in sorted((root / "leftImg8bit").glob("*/"))}
    splits: Pairs = {}
    kinds = set()
    for part in named_splits(places, split, test_split):
        splits[part] = {}
        for name, path in image_paths(places[part]).items():
            stem = name.removesuffix(path.suffix).removesuffix("_leftImg8bit")
            files = [root / "gtFine" / part / f"{stem}_gtFine_{kind}.png" for kind in ("labelTrainIds", "labelIds")]
            mask = next((file for file in files if file.exists()), None)
            if mask is None:
                raise InputError(f"{path}: no mask {files[1]}; add it, or remove the image")
            splits[part][stem] = path, mask
            kinds.add(mask == files[0])
    if len(kinds) > 1:
        raise InputError(
            f"{root}: some masks are labelTrainIds and some labelIds only; make the others, or remove them"
        )
    if True in kinds:
        return splits, indexed(list(_CITYSCAPES))
    ids = dict.fromkeys(range(34), VOID) | {index: label for label, index in enumerate(_CITYSCAPES.values())}
    return splits, indexed(list(_CITYSCAPES), ids)


def _voc(root, split, test_split):
    years = {
        year: (by_stem(image_paths(place / "JPEGImages")), by_stem(image_paths(place / "SegmentationClass")))
        for year, place in folders(root, "SegmentationClass").items()
    }
    lists = lists_of(root, "Segmentation", "SegmentationClass")
    if not lists:
        raise InputError(f"{root}: no lists in ImageSets/Segmentation; add train.txt and val.txt, a name on each line")
    splits: Pairs = {}
    for part in named_splits(lists, split, test_split):
        year, place, names = lists[part]
        images, masks = years[year]
        prefix = f"VOC{year}/" if year else ""
        for name in names:
            for files, folder in ((images, "JPEGImages"), (masks, "SegmentationClass")):
                if name not in files:
                    raise InputError(f"{place / folder}: no file {name!r}, which {part} lists; add it, or unlist it")
        splits[part] = {prefix + images[name].name: (images[name], masks[name]) for name in names}
    table = root / "classes.txt"
    return splits, read_table(table) if table.exists() else indexed(_VOC)
