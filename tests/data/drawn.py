"""The same boxes in each format. Classes are in alphabetical order, for the one that has no list of them."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

CLASSES = ["cat", "dog", "eel"]
HEIGHT, WIDTH = 12, 16
BOXES = {  # by split and image: class, x0, y0, width, height in pixels, crowd
    "train": {
        "a.png": [("dog", 0, 0, 16, 12, False), ("cat", 3, 2, 5, 4, False)],
        "b.png": [("eel", 15, 11, 1, 1, False)],
        "c.png": [],
        "d.png": [("cat", 1, 1, 2, 2, False), ("cat", 4, 4, 8, 7, False), ("eel", 0, 6, 3, 3, False)],
    },
    "test": {"e.png": [("cat", 2, 3, 4, 5, False)], "f.png": [("dog", 7, 1, 9, 10, False)]},
}


def save(path, shape=(HEIGHT, WIDTH, 3), **options):
    """Noise that the file's name alone decides on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*path.name.encode()])
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path, **options)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def coco(root: Path, splits=BOXES):
    for split, images in splits.items():
        content = {"categories": [{"id": 7 + i, "name": name} for i, name in enumerate(CLASSES)][::-1]}
        content |= {"images": [], "annotations": []}
        for number, (name, boxes) in enumerate(images.items()):
            save(root / split / name)
            content["images"].append({"id": 100 + number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            for label, *box, crowd in boxes:
                entry = {"image_id": 100 + number, "category_id": 7 + CLASSES.index(label), "bbox": box}
                content["annotations"].append(entry | {"iscrowd": int(crowd)})
        write(root / f"annotations_{split}.json", json.dumps(content))


def voc(root: Path, splits=BOXES):
    for split, images in splits.items():
        for name, boxes in images.items():
            save(root / "JPEGImages" / name)
            tree = ElementTree.Element("annotation")
            _add(tree, "size", width=WIDTH, height=HEIGHT, depth=3)
            for label, x, y, width, height, crowd in boxes:
                thing = _add(tree, "object", name=label, difficult=int(crowd))
                _add(thing, "bndbox", xmin=x + 1, ymin=y + 1, xmax=x + width, ymax=y + height)
            write(root / "Annotations" / f"{Path(name).stem}.xml", ElementTree.tostring(tree, "unicode"))
        names = "".join(f"{Path(name).stem}\n" for name in images)
        write(root / "ImageSets" / "Main" / f"{split}.txt", names)
        write(root / "ImageSets" / "Main" / f"cat_{split}.txt", names.replace("\n", " -1\n"))


def yolo(root: Path, splits=BOXES):
    write(root / "data.yaml", f"path: .\nnames: {CLASSES}\nnc: {len(CLASSES)}\n")
    for split, images in splits.items():
        for name, boxes in images.items():
            save(root / "images" / split / name)
            lines = [
                f"{CLASSES.index(label)} {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}\n"
                for label, x, y, w, h, _ in boxes
            ]
            write(root / "labels" / split / f"{Path(name).stem}.txt", "".join(lines))


FORMATS = [coco, voc, yolo]


def _add(parent, tag, **texts):
    element = ElementTree.SubElement(parent, tag)
    for name, text in texts.items():
        ElementTree.SubElement(element, name).text = str(text)
    return element


def expected(boxes):
    """`{class, corners in shares}` of what was drawn on an image."""
    scale = [WIDTH, HEIGHT, WIDTH, HEIGHT]
    return [
        (CLASSES.index(label), *np.float32(np.divide([x, y, x + w, y + h], scale)).tolist(), crowd)
        for label, x, y, w, h, crowd in boxes
    ]


def drawn(labels, row):
    """The same of an image's labels."""
    there = labels.classes[row] >= 0
    assert there.sum() == (~there).argmax() or there.all()  # padding is behind
    parts = labels.classes[row], labels.corners[row], labels.crowd[row]
    return [
        (int(c), *corners.tolist(), bool(crowd)) for c, corners, crowd in zip(*(p[there] for p in parts), strict=True)
    ]
