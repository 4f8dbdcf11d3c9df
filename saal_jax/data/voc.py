"""Boxes in Pascal VOC's XML: `JPEGImages/NAME.jpg`, `Annotations/NAME.xml`, and `ImageSets/Main/{split}.txt`.

The folder is one such, or holds several `VOC2007`, `VOC2012`, ... (also below `VOCdevkit`); with several, their splits
are `trainval2007`, `trainval2012`. Without lists all is one split, `all`. Corners are counted from one and belong to
the box: x0 = xmin - 1, width = xmax - xmin + 1. `difficult` objects are crowd: neither trained on nor counted, as in
VOC. Parts of objects are not read. Classes are the lines of `classes.txt`, or else all
that the training split mentions.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from saal_jax.data.annotated import (
    Annotated,
    Splits,
    by_stem,
    corners_of,
    image_paths,
    lines_of,
    warn_of_unlabelled,
)
from saal_jax.data.listed import named_splits
from saal_jax.errors import InputError, one_line
from saal_jax.paths import open_file

LAYOUT = "JPEGImages/, Annotations/ and ImageSets/Main/{split}.txt"


def is_there(root: Path) -> bool:
    """Whether a folder holds such files."""
    return bool(folders(root))


def folders(root: Path, labels: str = "Annotations") -> dict[str, Path]:
    """The folders of each year that hold such labels; the year is left out where there is but one."""
    places = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    places = [place for place in places if (place / labels).is_dir() and (place / "JPEGImages").is_dir()]
    return {place.name.removeprefix("VOC") if len(places) > 1 else "": place for place in places}


def lists_of(root: Path, kind: str, labels: str = "Annotations") -> dict[str, tuple[str, Path, list[str]]]:
    """The lists of names in `ImageSets/{kind}` by split: year, folder and names."""
    lists = {}
    for year, place in folders(root, labels).items():
        for path in sorted((place / "ImageSets" / kind).glob("*.txt")):
            lines = lines_of(path)
            if not any(len(line.split()) > 1 for line in lines[:1]):  # those are of one class
                lists[path.stem + year] = year, place, lines
    return lists


def read(root: Path, split: str, test_split: str) -> tuple[Splits, list[str]]:
    """The images of the splits that are named, and the classes. Raises `InputError`."""
    years = {year: _files(year, place) for year, place in folders(root).items()}
    lists = lists_of(root, "Main") or {f"all{year}": (year, it.place, sorted(it.texts)) for year, it in years.items()}
    splits: Splits = {}
    for part in named_splits(lists, split, test_split):
        year, place, names = lists[part]
        splits[part] = {}
        for name in names:
            image = _annotated(years[year], name)
            if image and image.name in splits[part]:
                raise InputError(f"{place}/ImageSets/Main: {name!r} is listed twice in {part}; remove one")
            if image:
                splits[part][image.name] = image
    for place, _, images, texts in years.values():
        warn_of_unlabelled(str(place / "JPEGImages"), [path.name for name, path in images.items() if name not in texts])
    file = root / "classes.txt"
    if file.exists():
        return splits, lines_of(file)
    of_train = [splits[part] for part in named_splits(lists, split) if part in splits]
    return splits, sorted({name for part in of_train for image in part.values() for name in image.classes})


class _Year(NamedTuple):
    place: Path
    prefix: str  # of the names of its images
    images: dict[str, Path]  # by name without suffix, as lists have it
    texts: dict[str, Path]


def _files(year, place):
    texts = {path.stem: path for path in (place / "Annotations").glob("*.xml")}
    return _Year(place, f"VOC{year}/" if year else "", by_stem(image_paths(place / "JPEGImages")), texts)


def _annotated(year, name):
    """The image of that name with its boxes; None where nobody has drawn them."""
    text, path = year.texts.get(name), year.images.get(name)
    if path is None:
        raise InputError(f"{text or year.place}: no image {name!r} in {year.place / 'JPEGImages'}; add or unlist it")
    if text is None:
        return None
    tree, here = _parsed(text), f"{text}: image {path.name!r}"
    image = Annotated(year.prefix + path.name, path, str(text), [], [], [], _size(tree, here))
    for thing in tree.findall("object"):
        sides = [_number(thing, f"bndbox/{side}", here) for side in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = sides
        image.corners.append(corners_of((left - 1, top - 1, right - left + 1, bottom - top + 1), here, sides))
        image.classes.append((thing.findtext("name") or "").strip())
        image.crowd.append((thing.findtext("difficult") or "0").strip() == "1")
    if not all(image.classes):
        raise InputError(f"{here}: an object has no name; name its class")
    return image


def _parsed(path):
    """The root of an XML file; one that defines entities could grow without end, or read other files."""
    try:
        with open_file(path) as file:
            content = file.read()
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.Parse(content, True)
        tree = ElementTree.fromstring(content)
        if tree.tag != "annotation":
            raise ValueError(f"it holds <{tree.tag}>, not <annotation>")
        return tree
    except (OSError, ValueError, LookupError, ElementTree.ParseError, expat.ExpatError, RecursionError) as error:
        raise InputError(f"{path}: no annotation of Pascal VOC ({one_line(error)}); write it again") from None


def _refuse_doctype(*_):
    raise ValueError("it declares a document type")


def _number(thing, key, here):
    text = (thing.findtext(key) or "").strip()
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{here}: {key} is {text!r}; write a number") from None


def _size(tree, here):
    """Height and width, where both are said; zeros say nothing."""
    if tree.find("size") is None:
        return None
    size = [_number(tree, f"size/{axis}", here) for axis in ("height", "width")]
    return None if size == [0, 0] else tuple(int(value) for value in size)
