"""Annotations that cannot be used: one line each, with the file, the image and the value."""

import json

import numpy as np
import pytest
from PIL import Image

from saal_jax.data import load_boxes
from saal_jax.errors import InputError

from . import drawn
from .refusals import refusal


@pytest.fixture
def refused(tmp_path):
    """Loads the pets, which must raise an `InputError` of one line that contains all of `words`."""

    def check(*words, **arguments):
        arguments["cache_dir"] = str(tmp_path / "cache")
        message = refusal(load_boxes, str(tmp_path / "pets"), *words, **arguments)
        assert len(message) < 500
        return message

    return check


def change_json(key, row, **changes):
    """A function of what a JSON file holds: new values in an entry of a list, or, where there is no row, a new list."""

    def change(content):
        if row is None:
            content[key] = changes["to"]
        else:
            content[key][row] |= changes

    return change


def without(*keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


NAN, INF = float("nan"), float("inf")
COCO = {
    "nan": (change_json("annotations", 0, bbox=[NAN, 3, 4, 5]), ["image 'e.png'", "[nan, 3, 4, 5] is not finite"]),
    "inf": (change_json("annotations", 0, bbox=[2, 3, INF, 5]), ["image 'e.png'", "[2, 3, inf, 5] is not finite"]),
    "no width": (change_json("annotations", 1, bbox=[2, 3, 0, 5]), ["image 'f.png'", "[2, 3, 0, 5] has no area"]),
    "negative": (change_json("annotations", 1, bbox=[2, 3, 4, -5]), ["image 'f.png'", "[2, 3, 4, -5] has no area"]),
    "outside": (
        change_json("annotations", 0, bbox=[16, 3, 4, 5]),
        ["image 'e.png'", "corners [16.0, 3.0, 20.0, 8.0] lies outside the image of 16x12 pixels"],
    ),
    "above": (change_json("annotations", 0, bbox=[2, -5, 4, 5]), ["corners [2.0, -5.0, 6.0, 0.0] lies outside"]),
    "three": (change_json("annotations", 0, bbox=[2, 3, 4]), ["image 'e.png'", "[2, 3, 4] is not four numbers"]),
    "text": (change_json("annotations", 0, bbox=[2, 3, "4", 5]), ["image 'e.png'", "'4', 5] is not four numbers"]),
    "true": (change_json("annotations", 0, bbox=[2, 3, True, 5]), ["image 'e.png'", "True, 5] is not four numbers"]),
    "no box": (without("annotations", 0, "bbox"), ["annotations[0]: bbox is None; write a list of four numbers"]),
    "class": (change_json("annotations", 0, category_id=1), ["'e.png': category_id 1 is not among the categ"]),
    "image": (change_json("annotations", 0, image_id=7), ["annotations[0] is of image_id 7, which is not among"]),
    "crowd": (change_json("annotations", 0, iscrowd=2), ["image 'e.png'", "iscrowd is 2; write 0 or 1"]),
    "file": (change_json("images", 0, file_name="x.png"), ["images[0], 'x.png': no such image in", "/pets/test"]),
    "escape": (change_json("images", 0, file_name="../train/a.png"), ["'../train/a.png': no such image"]),
    "twice": (change_json("images", 0, file_name="f.png"), ["images[1], 'f.png': is listed twice"]),
    "twice, spelt otherwise": (change_json("images", 0, file_name="./f.png"), ["images[1], 'f.png': is listed twice"]),
    "id twice": (change_json("images", 0, id=101), ["images[1], 'f.png': has the id 101 of another image"]),
    "id of text": (change_json("images", 0, id="101"), ["images[0]: id is '101'; write a whole number"]),
    "size": (change_json("images", 0, width=12, height=16), ["image 'e.png' is said to be 12x16 but is 16x12", "EXIF"]),
    "half": (change_json("images", 0, width=15.5), ["'e.png': height and width are [12, 15.5]; write whole numbers"]),
    "size of text": (change_json("images", 0, width="16"), ["'e.png': height and width are [12, '16']"]),
    "category twice": (change_json("categories", 0, id=7), ["categories[2] has the id 7 of another"]),
    "name twice": (change_json("categories", 0, name="dog"), ["its categories are not those of annotations_te"]),
    "other categories": (change_json("categories", 0, id=17), ["_train.json: its categories are not those of"]),
    "no categories": (without("categories"), ["annotations_test.json: has no list 'categories'"]),
    "no list": (change_json("images", None, to={}), ["annotations_test.json: has no list 'images'"]),
    "no object": (change_json("annotations", None, to=[[]]), ["annotations[0] is []; write an object"]),
}  # fmt: skip


@pytest.mark.parametrize("name", COCO)
def test_coco(tmp_path, refused, name):
    drawn.coco(tmp_path / "pets")
    path = tmp_path / "pets/annotations_test.json"
    content = json.loads(path.read_text())
    change, words = COCO[name]
    change(content)
    path.write_text(json.dumps(content))
    assert str(path.parent) in refused(*words)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", "null", "[" * 100_000, '{"a":' * 100_000, "\0", '{"images": \ud800}', "1" * 5000]
)
def test_coco_that_is_none(tmp_path, refused, content):
    drawn.coco(tmp_path / "pets")
    (tmp_path / "pets/annotations_test.json").write_bytes(content.encode(errors="surrogatepass"))
    refused("annotations_test.json: no COCO JSON")


def test_coco_without_its_images(tmp_path, refused):
    drawn.coco(tmp_path / "pets")
    (tmp_path / "pets/test").rename(tmp_path / "pets/elsewhere")
    refused("the images of annotations_test.json are missing; put them into", "/pets/test")


VOC = {  # text, what replaces it, and the message
    "nan": ("<xmin>3", "<xmin>nan", ["image 'e.png'", "box [nan, 4.0, 6.0, 8.0] is not finite"]),
    "words": ("<xmin>3", "<xmin>three", ["image 'e.png'", "bndbox/xmin is 'three'; write a number"]),
    "missing": ("<xmin>3</xmin>", "", ["image 'e.png'", "bndbox/xmin is ''; write a number"]),
    "reversed": ("<xmax>6", "<xmax>2", ["image 'e.png'", "box [3.0, 4.0, 2.0, 8.0] has no area"]),
    "outside": ("<xmin>3</xmin><ymin>4</ymin><xmax>6", "<xmin>17</xmin><ymin>4</ymin><xmax>19", ["lies outside"]),
    "class": ("<name>cat", "<name>gnu", ["image 'e.png'", "class 'gnu' is none of cat, dog, eel"]),
    "no class": ("<name>cat</name>", "", ["image 'e.png'", "an object has no name"]),
    "size": ("<width>16", "<width>15", ["image 'e.png' is said to be 15x12 but is 16x12"]),
    "size of text": ("<width>16", "<width>wide", ["image 'e.png'", "size/width is 'wide'"]),
    "entities": ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', ["e.xml", "declares a document type"]),
    "a file": ("<annotation>", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation>', ["declares a document type"]),
    "half": ("</annotation>", "", ["e.xml: no annotation of Pascal VOC"]),
    "other": ("annotation>", "html>", ["e.xml: no annotation of Pascal VOC (it holds <html>"]),
    "encoding": ("<annotation>", '<?xml version="1.0" encoding="nonsense"?><annotation>', ["e.xml: no annotation"]),
}


@pytest.mark.parametrize("name", VOC)
def test_voc(tmp_path, refused, name):
    drawn.voc(tmp_path / "pets")
    path = tmp_path / "pets/Annotations/e.xml"
    before, after, words = VOC[name]
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    refused(path, *words)


def test_voc_hides_no_entity_in_another_encoding(tmp_path, refused):
    drawn.voc(tmp_path / "pets")
    path = tmp_path / "pets/Annotations/e.xml"
    text = path.read_text()
    head, body = '<?xml version="1.0" encoding="{}"?>', '<!DOCTYPE a [<!ENTITY b "c">]>' + text
    path.write_bytes((head.format("utf-16") + body).encode("utf-16"))
    refused(path, "declares a document type")
    path.write_bytes(head.format("cp037").encode() + body.encode("cp037"))  # where no byte is that of ASCII's "<"
    refused(path, "no annotation of Pascal VOC")


def test_voc_nested_without_end(tmp_path, refused):
    drawn.voc(tmp_path / "pets")
    path = tmp_path / "pets/Annotations/e.xml"
    path.write_text("<annotation>" * 100_000)
    refused(path, "no annotation of Pascal VOC")
    path.write_text("<annotation>" * 100_000 + "</annotation>" * 100_000)
    load_boxes(str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache"))  # an image without objects


def test_voc_with_comments_is_read(tmp_path):
    drawn.voc(tmp_path / "pets")
    digest = load_boxes(str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache")).digest
    path = tmp_path / "pets/Annotations/e.xml"
    path.write_text(path.read_text().replace("<object>", "<!-- by hand --><source><![CDATA[<b>]]></source><object>"))
    assert load_boxes(str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache")).digest == digest


def test_voc_lists(tmp_path, refused):
    drawn.voc(tmp_path / "pets")
    path = tmp_path / "pets/ImageSets/Main/test.txt"
    path.write_text("e\nf\ne\n")
    refused("'e' is listed twice in test")
    path.write_text("e\nf\ng\n")
    refused("no image 'g' in", "JPEGImages")
    path.write_bytes(b"\xff\xfe")
    refused(path, "cannot be read")
    path.write_text("e\nf\n")
    (tmp_path / "pets/classes.txt").write_text("cat\neel\n")
    refused("class 'dog' is none of cat, eel")


YOLO = {
    "class": ("3 .5 .5 .2 .2", ["class 3 is outside 0..2"]),
    "negative class": ("-1 .5 .5 .2 .2", ["class -1 is outside 0..2"]),
    "name": ("cat .5 .5 .2 .2", ["'cat .5 .5 .2 .2' is no whole number and four others"]),
    "nan": ("0 nan .5 .2 .2", ["box ['nan', '.5', '.2', '.2'] is not finite"]),
    "flat": ("0 .5 .5 .2 0", ["box ['.5', '.5', '.2', '0'] has no area"]),
    "outside": ("0 1.5 .5 .2 .2", ["corners [1.4, 0.4, 1.6, 0.6] lies outside the image of 16x12 pixels"]),
    "pixels": ("0 8 6 4 4", ["lies outside"]),
    "four": ("0 .5 .5 .2", ["has 4 values (too few); write class, x, y, width, height"]),
    "segment": ("0 .5 .5 .2 .2 .1 .1", ["has 7 values (of a segment or of a prediction)"]),
}


@pytest.mark.parametrize("name", YOLO)
def test_yolo(tmp_path, refused, name):
    drawn.yolo(tmp_path / "pets")
    path = tmp_path / "pets/labels/test/e.txt"
    text, words = YOLO[name]
    path.write_text(f"{path.read_text()}\n{text}\n")
    message = refused(path, "image 'e.png'", *words)
    assert "line 2" in message or "outside the image" in message


def test_yolo_files(tmp_path, refused):
    drawn.yolo(tmp_path / "pets")
    (tmp_path / "pets/labels/test/g.txt").write_text("")
    refused("g.txt: no image 'g' in", "images/test")
    (tmp_path / "pets/labels/test/g.txt").unlink()
    drawn.save(tmp_path / "pets/images/test/e.jpg")
    refused("is called the same but for its suffix", "e.png", "e.jpg")
    (tmp_path / "pets/images/test/e.jpg").unlink()
    (tmp_path / "pets/data.yaml").write_text("names: 5\n")
    refused("data.yaml: cannot read its names")
    (tmp_path / "pets/data.yaml").unlink()
    refused("no names of classes; add a data.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "names: [a, 'b, c', \"d\"]  # [e]\nnc: 3\n",
        "names:\n- a\n- b, c # e\n- 'd'\nnc: 3\n",
        "nc: 3\nnames:\n  # of animals\n  0: a\n  2: d\n\n  1: b, c\ntrain: images\n",
        "names: {0: a, 1: 'b, c', 2: d}",
        "names: [\n  a,\n  'b, c',\n  d,\n]\n",
        "names:\n  - a\n  - b, c\n  - d",
    ],
)
def test_names_in_yaml(tmp_path, text):
    drawn.yolo(tmp_path / "pets")
    (tmp_path / "pets/data.yaml").write_text(text)
    assert load_boxes(str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache")).class_names == ("a", "b, c", "d")


@pytest.mark.parametrize("write", drawn.FORMATS)
def test_images_that_cannot_be_read(tmp_path, refused, write):
    write(tmp_path / "pets")
    (path,) = (tmp_path / "pets").rglob("e.png")
    path.write_bytes(path.read_bytes()[:60])
    refused(path, "cannot read the image")
    path.write_text("")
    refused(path, "cannot read the image")


def test_names_of_classes(tmp_path, refused):
    drawn.yolo(tmp_path / "pets")
    (tmp_path / "pets/data.yaml").write_text("names: [cat, dog, cat]")
    refused("two of the class names are the same")


def test_images_of_several_shapes(tmp_path, refused):
    drawn.coco(tmp_path / "pets")
    content = json.loads((tmp_path / "pets/annotations_test.json").read_text())
    content["images"][0]["height"] = 14
    (tmp_path / "pets/annotations_test.json").write_text(json.dumps(content))
    Image.fromarray(np.zeros((14, 16, 3), np.uint8)).save(tmp_path / "pets/test/e.png")
    refused("14x16x3", "12x16x3", "give an image_size")
    data = load_boxes(str(tmp_path / "pets"), cache_dir=str(tmp_path / "cache"), image_size=8)
    row = data.test.ids.tolist().index("e.png")
    np.testing.assert_allclose(data.test.labels.corners[row, 0] * [16, 14, 16, 14], [2, 3, 6, 8], atol=1e-5)


def test_where_there_is_nothing(tmp_path, refused):
    refused("no such folder")
    (tmp_path / "pets").mkdir()
    message = refused("holds no boxes; lay it out as annotations_{train,test}.json")
    assert "ImageSets" in message and "data.yaml" in message


@pytest.mark.parametrize("name", ["bccd", "neu_det", "cards"])
def test_what_is_missing_can_be_had(tmp_path, name):
    with pytest.raises(InputError) as caught:
        load_boxes(name, data_dir=str(tmp_path))
    message = str(caught.value)
    assert (
        "https://github.com/" in message and f"{tmp_path}/{name}/" in message and "annotations_{train,test}" in message
    )
