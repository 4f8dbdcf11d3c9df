"""Data sets in TFDS's array_record format, read without TensorFlow."""

import difflib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from saal_jax.data import image_files
from saal_jax.data.cache import cached, cached_on_disk, content_key
from saal_jax.data.slices import Ranges, ranges, resolve
from saal_jax.errors import InputError, one_line
from saal_jax.paths import data_folder
from saal_jax.typing import ImageSize

_AT_ONCE = 500  # records


def read(
    name: str,
    split: str,
    test_split: str,
    data_dir: str | None,
    cache_dir: str | None,
    image_size: ImageSize,
    max_resident: int | None,
):
    """Reads `name` from `data_dir`: two `(images, labels, ids)` and the class names. Raises `InputError`."""
    builder = open_builder(name, data_dir)
    keys = _supervised_keys(builder)
    lengths = {part: info.shard_lengths for part, info in builder.info.splits.items()}
    pair = resolve(split, test_split, lengths, name)
    kind = Kind(
        keys, ("labels",), lambda records, where: [np.array([it[keys[1]] for it, _ in records], np.int32)], "id"
    )
    train, test = (read_ranges(builder, kind, wanted, cache_dir, image_size, max_resident) for wanted in pair)
    return train, test, builder.info.features[keys[1]].names


class Kind(NamedTuple):
    """What is read of each record: its image, by the first of `keys`; arrays `names`, which are `arrays_of` all records
    and their ids (and where they are from); and an id, by the key `id`, where there is one.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    arrays_of: Callable[[Iterable[tuple[dict, str]], str], list[np.ndarray]]
    id: str


def records(name: str, split: str, data_dir: str | None):
    """The undecoded examples of `split`, the key of their image and its number of channels. Raises `InputError`."""
    builder = open_builder(name, data_dir)
    image_key, _ = _supervised_keys(builder)
    lengths = {part: info.shard_lengths for part, info in builder.info.splits.items()}
    spec = _spec(ranges(split, lengths, name))
    _files(builder, spec)
    source = builder.as_data_source(spec, decoders={image_key: tfds.decode.SkipDecoding()})
    return source, image_key, builder.info.features[image_key].shape[-1]


def known_names() -> list[str]:
    """The data sets that TFDS knows by name."""
    return tfds.list_builders(with_community_datasets=False)  # the community's list would need TensorFlow


def open_builder(name: str, data_dir: str | None, others: Sequence[str] = ("digits", "cifar10", "mnist")):
    """A builder over the files of `name` in `data_dir`, which prepares them first where it can.

    `others` are names that an unknown one may have meant besides TFDS's.
    """
    folder = str(data_folder(data_dir))
    try:
        parsed, wanted = tfds.core.naming.parse_builder_name_kwargs(name)
    except ValueError:
        raise InputError(f"{name!r} is no data set name; write it as `name`, `name/config` or `name:1.2.3`") from None
    try:
        return _open(name, folder)
    except tfds.core.DatasetNotFoundError:
        pass
    from saal_jax.data import builders

    dataset = str(parsed)
    here = Path(folder).absolute()
    inside = next((above for above in (here, here.parent) if above.name == dataset), None)
    if inside and [*Path(folder).glob("features.json"), *Path(folder).glob("*/features.json")]:
        raise InputError(f"data_dir {folder} lies in the data set itself; give the folder above, {inside.parent}")
    if builders.can_prepare(dataset, **wanted):
        builders.prepare(dataset, folder)
        return _open(name, folder)
    if dataset in known_names():
        raise InputError(
            f"{name} is not prepared in {folder}; give another data_dir, or prepare it, which needs TensorFlow: "
            f"`tfds build {name} --file_format=array_record --data_dir={folder}`"
        )
    near = difflib.get_close_matches(dataset, [*others, *known_names()], n=3) or others
    raise InputError(
        f"no data set {name!r} in {folder}, nor a folder or TFDS data set of that name; did you mean {', '.join(near)}?"
    )


def _open(name, folder):
    try:
        builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError:
        raise
    except Exception as error:  # metadata that do not parse raise all sorts of errors
        reason = one_line(error)
        raise InputError(f"{name} in {folder}: cannot read its metadata ({reason}); prepare it again") from None
    if tfds.core.FileFormat.ARRAY_RECORD not in builder.info.available_file_formats():
        raise InputError(
            f"{name} in {folder} is stored as {builder.info.file_format.value}; "
            "prepare it with the file_format array_record, in another data_dir"
        )
    return builder


def _supervised_keys(builder):
    keys = builder.info.supervised_keys
    features = builder.info.features
    try:
        image, label = (features[key] for key in keys)
        fits = isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)
    except (TypeError, ValueError, KeyError):
        fits = False
    if not fits or image.np_dtype != np.uint8 or image.shape[-1] not in image_files.MODES:
        name = builder.info.full_name
        raise InputError(f"{name} is no data set of 8-bit images with one class label each; choose another")
    return keys


def read_ranges(
    builder: Any,
    kind: Kind,
    wanted: Ranges,
    cache_dir: str | None,
    image_size: ImageSize,
    max_resident: int | None,
) -> tuple:
    """The images of these ranges, the arrays of a kind, and the ids; from the cache if these very bytes have been
    decoded before.
    """
    spec = _spec(wanted)
    where = f"{builder.info.full_name} in {builder.data_path}"
    files = _files(builder, spec)
    features = json.dumps(builder.info.features.to_json(), sort_keys=True)
    key = content_key((spec, *kind.keys, features, str(image_size)), files)
    image_key, id_key = kind.keys[0], kind.id if kind.id in builder.info.features else None
    channels = builder.info.features[image_key].shape[-1]
    numbered = [f"{part}_{i:05d}" for part, start, stop in wanted for i in range(start, stop)]

    def records(at_once=_AT_ONCE):
        """Every undecoded example and its id, so many at a time in memory."""
        source = builder.as_data_source(spec, decoders={image_key: tfds.decode.SkipDecoding()})
        for start in range(0, len(source), at_once):
            rows = list(range(start, min(start + at_once, len(source))))
            try:
                chunk = source.__getitems__(rows)
            except Exception as error:  # damaged records surface as errors of array_record or of the parser of examples
                reason = one_line(error)
                raise InputError(
                    f"{where}: cannot read the records of {spec} ({reason}); copy or prepare it again"
                ) from None
            for row, record in zip(rows, chunk, strict=True):
                yield record, _text(record[id_key], where) if id_key else numbered[row]

    def arrays_and_ids():
        ids: list[str] = []

        def noted():
            for record, example in records():
                ids.append(example)
                yield record, example

        return *kind.arrays_of(noted(), where), np.array(ids)

    def decoded(at_once=_AT_ONCE):
        for record, example in records(at_once):
            place = f"{where}, example {example!r}"
            yield image_files.decode(io.BytesIO(record[image_key]), channels, image_size, place)

    def read_all():
        *arrays, ids = arrays_and_ids()
        return image_files.stack(decoded(), ids, where), *arrays, ids

    names = (*kind.names, "ids")
    if max_resident is None or len(numbered) * next(decoded(at_once=1)).nbytes <= max_resident:
        return tuple(cached(key, cache_dir, ("images", *names), read_all))
    *arrays, ids = cached(f"{key}-labels", cache_dir, names, arrays_and_ids)
    images = cached_on_disk(key, cache_dir, len(ids), lambda: image_files.blocks(decoded(), ids, where))
    return images, *arrays, ids


def _spec(wanted):
    return "+".join(f"{part}[{start}:{stop}]" for part, start, stop in wanted)


def _files(builder, spec):
    """The files that hold the examples of `spec`; `InputError` if one is missing."""
    files = [Path(file.filename) for file in builder.info.splits[spec].file_instructions]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise InputError(
            f"{builder.info.full_name} in {builder.data_path}: {missing[0]} is missing and {spec} needs it; "
            "copy it there or choose another slice"
        )
    return files


def _text(value, where):
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise InputError(f"{where}: the id {value!r} is not UTF-8; prepare it again with ids of text") from None
