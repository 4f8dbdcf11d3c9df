"""Any folder is read as what its files and their names say, or refused in one line."""

import io
import os

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image

NAMES = ["train", "test", "Train", "all", "a", "b", "é", "e\u0301", "c d", ".hidden", "1.png", "x.PNG", "val", "images"]
KINDS = {"png": "PNG", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "webp": "WEBP"}  # that lose nothing


def encoded(value, mode, kind):
    """An image of one value, and the value that it should have once it is read."""
    pixels = np.full((4, 5), value, np.uint8)
    image = Image.fromarray(pixels) if mode == "L" else Image.fromarray(np.stack([pixels] * 3, -1))
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.where(pixels < 128, 0, 255).astype(np.uint8)))
        value = value if value >= 128 else 255
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    return file.getvalue(), value


@st.composite
def pictures(draw):
    """The bytes of a picture and its value."""
    mode = draw(st.sampled_from(["L", "RGB", "RGBA", "I;16"]))
    fits = {"I;16": ["png", "tif"], "RGBA": ["png", "webp"]}.get(mode, sorted(KINDS))
    return encoded(draw(st.integers(0, 255)), mode, KINDS[draw(st.sampled_from(fits))])


damaged = pictures().map(lambda picture: (picture[0][: len(picture[0]) // 2], None))
others = st.one_of(
    damaged, st.sampled_from(["pipe", "folder", "link to nowhere", "link up", (b"", None), (b"x", None)])
)


text = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=4)
names = st.one_of(st.sampled_from(NAMES), text)
PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".tif", ".webp")
suffixes = st.sampled_from([*PICTURES, ".PNG", ".txt", "", ".npy"])
split_trees = st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["a", "b", "c"]))
paths = st.one_of(
    st.tuples(split_trees, st.lists(names, max_size=2), names, suffixes).map(lambda t: (*t[0], *t[1], t[2] + t[3])),
    st.tuples(st.lists(names, max_size=3), names, suffixes).map(lambda t: (*t[0], t[1] + t[2])),
)
ordinary = {
    (split, label, "0.png"): encoded(value, "RGB", "PNG")
    for split in ("train", "test")
    for value, label in enumerate("abc")
}
trees = st.one_of(
    st.dictionaries(paths, pictures(), max_size=8).map(lambda more: ordinary | more),
    st.dictionaries(paths, st.one_of(pictures(), others), max_size=3).map(lambda more: ordinary | more),
    st.dictionaries(paths, st.one_of(pictures(), others), max_size=8),
)


def write(root, tree):
    """Writes what can be written; returns the value of each readable picture by its relative name."""
    values = {}
    for parts, content in tree.items():
        path = os.path.join(root, *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if content == "pipe":
                os.mkfifo(path)
            elif content == "folder":
                os.mkdir(path)
            elif content == "link to nowhere":
                os.symlink(os.path.join(root, "nowhere"), path)
            elif content == "link up":
                os.symlink(os.path.dirname(path), path)
            else:
                with open(path, "xb") as file:
                    file.write(content[0])
                values["/".join(parts)] = content[1]
        except OSError:  # a name that is taken, or . or ..
            pass
    return values


SPLITS = [("train", "test"), ("all[:50%]", "all[50%:]"), ("train[:50%]", "train[50%:]")]


@given(tree=trees, split=st.sampled_from(SPLITS))
def test_any_folder(child, folder, tree, split):
    root = folder()
    values = write(root, tree)
    answer = child.ask("load", root + "/", folder(), *split)
    event("refused" if "refused" in answer else "read")
    if "refused" in answer:
        return
    train, test, class_names = answer["result"]
    for part in (train, test):
        for name, label, image in zip(part["ids"], part["labels"], part["images"], strict=True):
            assert values[os.path.normpath(name)] is not None
            assert (np.array(image) == values[name]).all()
            assert class_names[label] in name.split("/")[:2]
    if split == ("train", "test"):  # nothing that lies where a picture should is passed over
        parts = {name: name.split("/") for name in values if name.lower().endswith(PICTURES)}
        shown = {name: above for name, above in parts.items() if not any(part.startswith(".") for part in above)}
        assert {name for name, above in shown.items() if above[0] == "train" and len(above) > 2} <= set(train["ids"])
