"""An `.npz` file: the arrays that `load` names, of which only those are read."""

import math

import numpy as np

from saal_jax.data.cache import cached_on_disk, content_key
from saal_jax.data.image_files import resize
from saal_jax.data.on_disk import spans
from saal_jax.data.slices import take_both
from saal_jax.engine.memory import on_disk
from saal_jax.errors import InputError, one_line, warn
from saal_jax.paths import open_file, user_path
from saal_jax.typing import ImageSize

ARRAYS = ("train_images", "train_labels", "train_ids", "test_images", "test_labels", "test_ids", "class_names")
_IMAGES = ("train_images", "test_images")


def read(
    path: str, split: str, test_split: str, cache_dir: str | None, image_size: ImageSize, max_resident: int | None
):
    """Reads two slices of the file at `path`: two `(images, labels, ids)` and the class names."""
    where = user_path(path)
    try:
        with open_file(where) as file, np.load(file) as stored:
            for member in stored.zip.infolist():  # a damaged name would hide an array
                stored.zip.open(member).close()
            large = [name for name in _IMAGES if name in stored.files and _is_large(stored, name, max_resident)]
            arrays = {name: _member(stored, name) for name in ARRAYS if name in stored.files and name not in large}
            others = [name for name in stored.files if name not in ARRAYS]
            for name in large:
                arrays[name] = _unpacked(path, stored, name, cache_dir, image_size)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except Exception as error:  # a damaged zip file and pickled objects raise many kinds
        raise InputError(f"{path}: no .npz file of plain arrays ({one_line(error)}); write it with np.savez") from None
    parts = {name: _part(path, name, arrays, others) for name in ("train", "test")}
    if "class_names" in arrays:
        names = _text(path, "class_names", arrays["class_names"]).tolist()
    else:
        names = _numbered(path, *parts["train"][1:])
    return *take_both(parts, split, test_split, path), names


def _is_large(stored, name, max_resident):
    """Whether an array of images takes more bytes than that."""
    if max_resident is None:
        return False
    with stored.zip.open(f"{name}.npy") as member:
        shape, _, dtype = _header(member)
    return dtype == np.uint8 and math.prod(shape) > max_resident


def _header(member):
    """Shape, order and dtype of a `.npy` file, of which the content is next to be read."""
    version = np.lib.format.read_magic(member)
    return (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(member)


def _unpacked(path, stored, name, cache_dir, image_size):
    """An array of images in a file of its own, mapped from the disk; resized where `image_size` is given."""
    with stored.zip.open(f"{name}.npy") as member:
        shape, by_columns, dtype = _header(member)
    _check_images(path, name, np.broadcast_to(np.zeros((), dtype), shape))
    if by_columns:
        raise InputError(f"{path}: {name} is stored in Fortran's order; store np.ascontiguousarray of it")

    def unpack():
        with stored.zip.open(f"{name}.npy") as member:
            _header(member)
            for start, stop in spans(shape[0], math.prod(shape[1:])):
                content = member.read((stop - start) * math.prod(shape[1:]))
                block = np.frombuffer(content, np.uint8).reshape(stop - start, *shape[1:])
                yield resize(block if len(shape) == 4 else block[..., None], image_size)
            if member.read():  # at the end the checksum is looked at
                raise ValueError(f"{name} is longer than it says")

    key = content_key(["npz", name, str(image_size)], [user_path(path)])
    return cached_on_disk(key, cache_dir, shape[0], unpack)


def _member(stored, name):
    array = stored[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no array")
    return array


def _part(path, name, arrays, others):
    """Images, labels and ids of one split."""
    missing = [key for key in (f"{name}_images", f"{name}_labels") if key not in arrays]
    if missing:
        there = ", ".join([*arrays, *others]) or "none"
        raise InputError(f"{path}: no array {missing[0]!r}, only {there}; add or rename it")
    images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
    if not on_disk(images):  # else that is done
        _check_images(path, f"{name}_images", images)
    default = np.array([f"{name}_{i:05d}" for i in range(len(images))], str)
    ids = _text(path, f"{name}_ids", arrays.get(f"{name}_ids", default))
    if not labels.shape == ids.shape == images.shape[:1]:
        shapes = f"{list(images.shape)}, labels {list(labels.shape)}, ids {list(ids.shape)}"
        raise InputError(f"{path}: {name} has images {shapes}; give each image one label and one id")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{path}: {name}_labels is {labels.dtype}; store integers from 0")
    return images[..., None] if images.ndim == 3 else images, labels, ids


def _check_images(path, name, images):
    if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
        first = tuple(np.argwhere(~np.isfinite(images))[0].tolist())
        raise InputError(f"{path}: {name} is not finite at {first}; correct it and store uint8 0..255")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        kind = f"{images.dtype} {list(images.shape)}"
        raise InputError(f"{path}: {name} is {kind}; store uint8 0..255, [N, H, W] or [N, H, W, C]")
    if images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise InputError(
            f"{path}: {name} is {list(images.shape)}, which looks like channels first; store [N, H, W, C], as "
            "images.transpose(0, 2, 3, 1) gives it"
        )


def _text(path, name, array):
    """The strings in an array [N] of text, of bytes (UTF-8) or of numbers."""
    if array.ndim != 1 or array.dtype.kind not in "USiufb":
        raise InputError(f"{path}: {name} is {array.dtype} {list(array.shape)}; store one text for each, an array [N]")
    try:
        if array.dtype.kind != "S":
            text = array.astype(str)
            text.tolist()  # a number that is no character is noticed here
            return text
        return np.array([value.decode() for value in array.tolist()], str)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {name} holds bytes that are not UTF-8 ({error.object!r}); store text") from None
    except (SystemError, ValueError):
        raise InputError(f"{path}: {name} holds numbers that are no characters; store text") from None


def _numbered(path, labels, ids):
    """Names for classes that have none: their numbers."""
    present = {int(label) for label in np.unique(labels)}
    largest = max(present, default=-1)
    if largest == 255 and 254 not in present:
        example, remedy = str(ids[labels.argmax()]), "remove those images, or give class_names"
        raise InputError(
            f"{path}: label 255 of example {example!r}, but no 254: if it marks images to ignore, {remedy}"
        )
    if largest >= max(len(labels), 1):
        example = str(ids[labels.argmax()])
        raise InputError(f"{path}: label {largest} of example {example!r}: number the classes from 0, without gaps")
    absent = [str(label) for label in range(largest + 1) if label not in present]
    if absent:
        listed = ", ".join(absent[:8]) + ", ..." * (len(absent) > 8)
        warn(f"{path}: classes without a training image: {listed}; are they numbered from 0?")
    return [str(label) for label in range(largest + 1)]
