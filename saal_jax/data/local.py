"""Images that lie in one place: scikit-learn's embedded digits, an `.npz` file."""

from pathlib import Path

import numpy as np

from saal_jax.data import images
from saal_jax.data.slices import resolve
from saal_jax.errors import InputError


def read_digits(split: str, test_split: str):
    """The 1,797 handwritten 8x8 digits; within each class every fourth one is a test image."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    ids = np.array([f"digits_{i:04d}" for i in range(len(labels))])
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[3::4]] = True
    parts = {name: (pixels[rows], labels[rows], ids[rows]) for name, rows in (("train", ~test), ("test", test))}
    return *_take_both(parts, split, test_split, "digits"), map(str, range(10))


def read_npz(path: str, split: str, test_split: str):
    """An `.npz` file; see `load` for the arrays it holds."""
    try:
        with open(Path(path).expanduser(), "rb") as file, np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except Exception as error:  # a damaged zip file and pickled objects raise many kinds
        reason = images.one_line(error)
        raise InputError(f"{path}: no .npz file of plain arrays ({reason}); write it with np.savez") from None
    parts = {name: _npz_part(path, name, arrays) for name in ("train", "test")}
    names = arrays.get("class_names")
    if names is None:
        pixels, labels, ids = parts["train"]
        largest = labels.max(initial=0)
        if largest >= max(len(labels), 1):
            example = str(ids[labels.argmax()])
            raise InputError(f"{path}: label {largest} of example {example!r}: number the classes from 0, without gaps")
        names = np.arange(largest + 1)
    return *_take_both(parts, split, test_split, path), names.astype(str).tolist()


def _npz_part(path, name, arrays):
    missing = [key for key in (f"{name}_images", f"{name}_labels") if key not in arrays]
    if missing:
        raise InputError(f"{path}: no array {missing[0]!r}, only {', '.join(arrays) or 'none'}; add or rename it")
    pixels, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        first = tuple(np.argwhere(~np.isfinite(pixels))[0].tolist())
        raise InputError(f"{path}: {name}_images is not finite at {first}; mend it and store uint8 0..255")
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        found = f"{pixels.dtype} {list(pixels.shape)}"
        raise InputError(f"{path}: {name}_images is {found}; store uint8 0..255, [N, H, W] or [N, H, W, C]")
    ids = arrays.get(f"{name}_ids", np.array([f"{name}_{i:05d}" for i in range(len(pixels))], str)).astype(str)
    if not labels.shape == ids.shape == pixels.shape[:1]:
        shapes = f"{list(pixels.shape)}, labels {list(labels.shape)}, ids {list(ids.shape)}"
        raise InputError(f"{path}: {name} has images {shapes}; give each image one label and one id")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{path}: {name}_labels is {labels.dtype}; store integers from 0")
    return pixels[..., None] if pixels.ndim == 3 else pixels, labels, ids


def _take_both(parts, split, test_split, where):
    """Cuts two slices out of whole splits, `{name: (images, labels, ids)}`."""
    pair = resolve(split, test_split, {name: [len(part[1])] for name, part in parts.items()}, where)
    return [
        tuple(np.concatenate([parts[name][i][start:stop] for name, start, stop in ranges]) for i in range(3))
        for ranges in pair
    ]
