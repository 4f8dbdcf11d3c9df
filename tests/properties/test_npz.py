"""Any `.npz` file is read as what it holds, or refused in one line."""

import io
import zipfile

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

PARTS = ("train", "test")
KEYS = [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels", "ids")] + ["class_names"]
whole = st.sampled_from(["u1", "i1", "u2", "<i4", ">i4", "i8", "u8"])
texts = st.text(st.characters(), max_size=4)


@st.composite
def files(draw):
    """The arrays of a valid file."""
    shape = draw(st.sampled_from([(4, 5), (4, 5, 1), (4, 5, 3)]))
    classes, arrays = draw(st.integers(1, 4)), {}
    for part in PARTS:
        size = draw(st.integers(classes, 6))
        arrays[f"{part}_images"] = draw(arrays_of.arrays(np.uint8, (size, *shape)))
        arrays[f"{part}_labels"] = (np.arange(size) % classes).astype(draw(whole))
        if draw(st.booleans()):
            arrays[f"{part}_ids"] = np.array([f"é{i}" for i in range(size)])
            if draw(st.booleans()):
                arrays[f"{part}_ids"] = np.array([text.encode() for text in arrays[f"{part}_ids"]])
    if draw(st.booleans()):
        arrays["class_names"] = np.array([f"class {label}" for label in range(classes)])
    return arrays


odd_texts = st.one_of(arrays_of.unicode_string_dtypes(max_len=5), arrays_of.byte_string_dtypes(max_len=5))
odd_shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
odd_arrays = st.one_of(
    arrays_of.arrays(st.one_of(arrays_of.scalar_dtypes(), odd_texts), odd_shapes),
    st.lists(texts, min_size=1, max_size=6).map(np.array),
    st.lists(st.sampled_from([0, 1, 2, 3, 254, 255, 2**40]), min_size=1, max_size=6).map(np.array),
)


def stored(arrays, raw):
    """The bytes of an archive of arrays and of members that are none."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    with zipfile.ZipFile(file, "a") as archive:
        for name, content in raw.items():
            archive.writestr(name, content)
    return file.getvalue()


def text_of(array):
    return [value.decode() if isinstance(value, bytes) else str(value) for value in array]


def assert_is_what_is_stored(result, arrays):
    *parts, class_names = result
    for name, part in zip(PARTS, parts, strict=True):
        images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
        np.testing.assert_array_equal(part["images"], images[..., None] if images.ndim == 3 else images)
        assert part["labels"] == [int(label) for label in labels]
        assert part["ids"] == text_of(arrays.get(f"{name}_ids", [f"{name}_{i:05d}" for i in range(len(images))]))
        assert all(0 <= label < len(class_names) for label in part["labels"])
    numbers = range(int(arrays["train_labels"].max()) + 1)
    assert class_names == (text_of(arrays["class_names"]) if "class_names" in arrays else [str(n) for n in numbers])


def ask(child, folder, content):
    path = f"{folder()}/a.npz"
    with open(path, "wb") as file:
        file.write(content)
    return child.ask("load", path, None, "train", "test")


@given(arrays=files())
def test_valid_files(child, folder, arrays):
    assert_is_what_is_stored(ask(child, folder, stored(arrays, {}))["result"], arrays)


raw_members = st.dictionaries(
    st.one_of(st.sampled_from([*KEYS, *(f"{key}.npy" for key in KEYS), "notes.txt"]), st.text(min_size=1, max_size=5)),
    st.one_of(st.binary(max_size=40), st.just(b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'shape': (9999999999,)}")),
    max_size=2,
)


@given(
    arrays=files(),
    changes=st.dictionaries(st.sampled_from(KEYS), st.one_of(st.none(), odd_arrays), max_size=2),
    raw=raw_members,
)
def test_files_of_other_arrays(child, folder, arrays, changes, raw):
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    raw = {name: content for name, content in raw.items() if name.removesuffix(".npy") not in arrays}
    answer = ask(child, folder, stored(arrays, raw))
    event("refused" if "refused" in answer else "read")
    if "result" in answer:
        assert_is_what_is_stored(answer["result"], arrays)


@given(arrays=files(), where=st.floats(0, 1, exclude_max=True), bits=st.integers(0, 255))
def test_damaged_files(child, folder, arrays, where, bits):
    """One byte changed, or the file cut off there."""
    content = stored(arrays, {})
    place = int(where * len(content))
    damaged = content[:place] + (bytes([content[place] ^ bits]) + content[place + 1 :] if bits else b"")
    answer = ask(child, folder, damaged)
    event("refused" if "refused" in answer else "read")
    if "result" in answer:
        assert_is_what_is_stored(answer["result"], arrays)


@given(content=st.binary(max_size=200))
def test_any_bytes(child, folder, content):
    assert "refused" in ask(child, folder, content)
