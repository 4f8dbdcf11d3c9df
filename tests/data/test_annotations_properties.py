"""Whatever is in a file of annotations: it is read, or refused in one line."""

import json
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saal_jax.data import load_boxes, load_masks
from saal_jax.errors import InputError

from . import drawn
from .test_masks_formats import cityscapes, coloured, plain, voc

MASKS = {"plain": plain, "coloured": coloured, "voc": voc, "cityscapes": lambda root: cityscapes(root, "labelIds")}
READ = {write.__name__: (write, load_boxes) for write in drawn.FORMATS} | {
    f"masks {name}": (write, load_masks) for name, write in MASKS.items()
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of each layout."""
    folders = {}
    for name, (write, _) in READ.items():
        folders[name] = tmp_path_factory.mktemp(name.replace(" ", "_")) / "set"
        write(folders[name])
        if name == "masks plain":
            drawn.write(folders[name] / "images.csv", "name,split,role\na,train,source\nb,train,pool\ne,test,\n")
    return folders


def tried(read, folder, tmp_path):
    """Reads it; what goes wrong must be an `InputError` of one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = read(str(folder), cache_dir=str(tmp_path / "cache"))
        except InputError as error:
            assert "\n" not in str(error) and str(error)
        else:
            for split in data[:2]:
                labels = split.labels
                if read is load_masks:
                    assert labels.shape == split.images.shape[:3]
                    assert ((labels < len(data.class_names)) | (labels == 255)).all()
                else:
                    there = labels.classes >= 0
                    assert (labels.classes < len(data.class_names)).all()
                    assert (labels.corners >= 0).all() and (labels.corners <= 1).all()
                    assert (labels.corners[there][:, :2] < labels.corners[there][:, 2:]).all()
                    assert not labels.corners[~there].any() and np.isfinite(labels.corners).all()


@given(data=st.data(), name=st.sampled_from(sorted(READ)))
def test_any_bytes(whole, tmp_path, data, name):
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    shutil.copytree(whole[name], tmp_path / "set")
    files = sorted(path for path in (tmp_path / "set").rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix != ".png"]
    path = data.draw(st.sampled_from(texts * 3 + files))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 20)))
    pieces = st.sampled_from(
        [b"nan", b"1e400", b"-1", b"\xff", b"\0", b"<!DOCTYPE a>", b"9" * 30, b"\n", b",", b"[", b"255"]
    )
    path.write_bytes(content[:start] + data.draw(st.one_of(pieces, st.binary(max_size=8))) + content[stop:])
    tried(READ[name][1], tmp_path / "set", tmp_path)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@given(data=st.data(), value=values)
def test_any_value_in_json(whole, tmp_path, data, value):
    shutil.rmtree(tmp_path / "set", ignore_errors=True)
    shutil.copytree(whole["coco"], tmp_path / "set")
    path = tmp_path / "set/annotations_test.json"
    content = json.loads(path.read_text())
    place = content
    for _ in range(data.draw(st.integers(0, 3))):
        below = [
            key
            for key in (place if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], dict | list)
        ]
        if not below:
            break
        place = place[data.draw(st.sampled_from(below))]
    keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
    if keys:
        place[data.draw(st.sampled_from(keys))] = value
    path.write_text(json.dumps(content))
    tried(load_boxes, tmp_path / "set", tmp_path)
