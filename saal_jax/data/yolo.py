"""Boxes in YOLO's text files: `images/{split}/NAME.jpg` and `labels/{split}/NAME.txt`, or `{split}/images/` and so on.

A line is `class x y width height`: the number of the class, and the box by its centre, in shares of the image as it
stands. A file without lines is an image without objects. Classes are the `names` of `data.yaml`, or lines of
`classes.txt`. Without folders of splits all is one split, `all`.
"""

import re
from pathlib import Path

from saal_jax.data.annotated import (
    Annotated,
    Splits,
    by_stem,
    corners_of,
    image_paths,
    lines_of,
    shown,
    text_of,
    warn_of_unlabelled,
)
from saal_jax.data.listed import image_and_label_folders, named_splits
from saal_jax.errors import InputError

LAYOUT = "images/{train,test}/, labels/{train,test}/ and data.yaml"


def is_there(root: Path) -> bool:
    """Whether a folder holds such files."""
    return bool(image_and_label_folders(root))


def read(root: Path, split: str, test_split: str) -> tuple[Splits, list[str]]:
    """The images of the splits that are named, and the classes. Raises `InputError`."""
    pairs, class_names = image_and_label_folders(root), _class_names(root)
    return {part: _read(*pairs[part], class_names) for part in named_splits(pairs, split, test_split)}, class_names


def _read(folder, labels, class_names):
    texts = {path.relative_to(labels).with_suffix("").as_posix(): path for path in labels.rglob("*.txt")}
    texts.pop("classes", None)  # where some tools keep the names
    paths = by_stem(image_paths(folder))
    alone = sorted(texts.keys() - paths.keys())
    if alone:
        raise InputError(f"{texts[alone[0]]}: no image {alone[0]!r} in {folder}; add it, or remove the file")
    names = {stem: path.relative_to(folder).as_posix() for stem, path in paths.items()}
    warn_of_unlabelled(str(folder), [name for stem, name in names.items() if stem not in texts])
    return {
        name: _annotated(name, paths[stem], texts[stem], class_names) for stem, name in names.items() if stem in texts
    }


def _annotated(name, path, text, class_names):
    image = Annotated(name, path, str(text), [], [], [], in_shares=True)
    for number, line in enumerate(lines_of(text), 1):
        here = f"{text}: line {number}, image {name!r}"
        words = line.split()
        if len(words) != 5:
            kind = "of a segment or of a prediction" if len(words) > 5 else "too few"
            raise InputError(f"{here}: has {len(words)} values ({kind}); write class, x, y, width, height")
        try:
            label, (x, y, width, height) = int(words[0]), map(float, words[1:])
        except ValueError:
            raise InputError(
                f"{here}: {shown(line)} is no whole number and four others; correct or remove it"
            ) from None
        if not 0 <= label < len(class_names):
            raise InputError(
                f"{here}: class {label} is outside 0..{len(class_names) - 1}; correct it, or name the class"
            )
        image.corners.append(corners_of((x - width / 2, y - height / 2, width, height), here, words[1:]))
        image.classes.append(class_names[label])
        image.crowd.append(False)
    return image


def _class_names(root):
    files = [*sorted(root.glob("*.yaml")), *sorted(root.glob("*.yml")), root / "classes.txt"]
    for path in files:
        if path.exists():
            names = lines_of(path) if path.suffix == ".txt" else names_of(path)
            if names:
                return names
    raise InputError(
        f"{root}: no names of classes; add a data.yaml with a list `names`, or classes.txt with one a line"
    )


def names_of(path: Path) -> list[str]:
    """The texts of `names` in a YAML file, be they a list or numbered; none where it has no such key."""
    match = re.search(r"^names[ \t]*:(.*(?:\n(?:[ \t-].*|[\]}]|[ \t]*|#.*)$)*)", text_of(path), re.MULTILINE)
    if not match:
        return []
    text = match[1].strip()
    if text[:1] in ("[", "{"):
        inside = re.findall(r"""(?:[^]}"']|"[^"]*"|'[^']*')+""", text[1:])[:1]
        entries = re.findall(r"""(?:[^,"']|"[^"]*"|'[^']*')+""", "".join(inside))
        numbered = text[0] == "{"
    else:
        entries = [line for line in text.splitlines() if not line.strip().startswith("#")]
        numbered = not text.startswith("-")
        entries = entries if numbered else [line.strip().removeprefix("-") for line in entries]
    entries = [entry.strip() for entry in entries if entry.strip()]
    pairs = [entry.partition(":")[::2] if numbered else (str(i), entry) for i, entry in enumerate(entries)]
    names = {number.strip(): _unquoted(name) for number, name in pairs}
    numbers = [str(i) for i in range(len(entries))]
    if sorted(names) != sorted(numbers) or not all(names.values()):
        raise InputError(f"{path}: cannot read its names; write `names: [cat, dog]`, or a line `  0: cat` for each")
    return [names[number] for number in numbers]


def _unquoted(text):
    text = text.strip()
    quoted = re.match(r"""("[^"]*"|'[^']*')""", text)
    return quoted[0][1:-1] if quoted else re.sub(r"(^|\s)#.*", "", text).strip()
