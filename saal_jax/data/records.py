"""Images on disk, decoded when they are read: a pool larger than memory."""

import io

import numpy as np

from saal_jax.data import image_files, prepared
from saal_jax.errors import InputError, one_line
from saal_jax.typing import ImageSize


class Records:
    """The images of a TFDS data set in `array_record` files, as `score_pool` takes them: `uint8[N, H, W, C]`.

    Nothing is held in memory but the index of the files; `records[positions]` reads and decodes those images.

    Args:
      name: a TFDS name, such as `cifar10`; the data set must be prepared (`saal_jax.data.load` says how).
      split: which examples, in TFDS's slicing language.
      data_dir: where prepared data sets lie; `None` is TFDS's default.
      image_size: `None`, or the pixels that every image is resized to, as by `saal_jax.data.load`.

    Raises:
      InputError: the data set cannot be read, or its images are not of one shape and `image_size` is `None`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, name: str, *, split: str = "train", data_dir: str | None = None, image_size: ImageSize = None):
        self._source, self._key, channels = prepared.records(name, split, data_dir)
        self._kind = channels, image_size
        self._where = f"{name}, {split}"
        self.shape = (len(self._source), *self[[0]].shape[1:])

    def __getitem__(self, positions):
        positions = np.arange(len(self._source))[positions]
        if positions.ndim != 1 or not positions.size:
            raise InputError(f"{self._where}: ask for one position or more, in an array of one axis")
        names = [str(position) for position in positions]
        try:
            records = self._source.__getitems__([int(position) for position in positions])
        except Exception as error:  # damaged records surface as errors of array_record or of the parser of examples
            reason = one_line(error)
            raise InputError(f"{self._where}: cannot read its records ({reason}); prepare it again") from None
        decoded = (
            image_files.decode(io.BytesIO(record[self._key]), *self._kind, f"{self._where}, example {name}")
            for record, name in zip(records, names, strict=True)
        )
        return image_files.stack(decoded, names, self._where)
