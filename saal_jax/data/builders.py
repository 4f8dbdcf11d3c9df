"""Prepare the four usual benchmarks from their official archives, in TFDS's layout but without TensorFlow.

TFDS's own builders encode images with TensorFlow. These yield PNG bytes instead; name, version, features, splits,
ids and order of the records are TFDS's, so that TFDS reads the result as its own.
"""

import gzip
import io
import os
import sys
import tarfile
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from scipy.io import loadmat

from saal_jax.data.download import Archive, fetch
from saal_jax.errors import InputError, one_line

CIFAR = "https://www.cs.toronto.edu/~kriz/"
SVHN = "http://ufldl.stanford.edu/housenumbers/"
FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
ARCHIVES = {  # sizes and checksums as published with TFDS
    "cifar10": [
        Archive(
            CIFAR + "cifar-10-binary.tar.gz",
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )
    ],
    "cifar100": [
        Archive(
            CIFAR + "cifar-100-binary.tar.gz",
            168513733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        )
    ],
    "svhn_cropped": [
        Archive(
            SVHN + "train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"
        ),
        Archive(SVHN + "test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    ],
    "fashion_mnist": [
        Archive(
            FASHION + "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        Archive(
            FASHION + "train-labels-idx1-ubyte.gz",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        Archive(
            FASHION + "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        Archive(
            FASHION + "t10k-labels-idx1-ubyte.gz",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ],
}
VERSIONS = {"cifar10": "3.0.2", "cifar100": "3.0.2", "svhn_cropped": "3.1.0", "fashion_mnist": "3.0.1"}
GARMENTS = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")


def can_prepare(name: str, version: str = "*.*.*", **other: object) -> bool:
    """Whether `prepare` can make this data set; `version` and `other` are what a TFDS name asks for besides."""
    return name in ARCHIVES and not other and tfds.core.Version(VERSIONS[name]).match(version)


def prepare(name: str, data_dir: str) -> None:
    """Downloads the data set `name` and writes it to `data_dir`, whole or not at all. Raises `InputError`."""
    target = Path(data_dir, name, VERSIONS[name])
    if target.exists():
        raise InputError(f"{target} is no whole data set: its features.json is missing; complete or remove the folder")
    above = next(path for path in (Path(data_dir), *Path(data_dir).absolute().parents) if path.exists())
    if not os.access(above, os.W_OK) or not above.is_dir():
        raise InputError(f"{name} is not in {data_dir}, which cannot be written; give another data_dir")
    with tempfile.TemporaryDirectory() as downloads:
        for archive in ARCHIVES[name]:
            fetch(archive, Path(downloads))
        features, splits = READERS[name](Path(downloads))
        try:
            os.makedirs(data_dir, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=data_dir, prefix=f".{name}.") as staging:
                writer = _Writer(name, features, splits, staging)
                with redirect_stdout(sys.stderr):  # it prints where it writes; our standard output is the caller's
                    writer.download_and_prepare()
                target.parent.mkdir(exist_ok=True)
                try:
                    os.rename(writer.data_path, target)
                except OSError:
                    if not target.exists():  # else another process was faster
                        raise
        except OSError as error:
            raise InputError(f"cannot write {name} to {data_dir} ({one_line(error)}); give another data_dir") from None


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self):
        """Does nothing: there is no bucket to ask, and asking leaves a temporary folder behind."""


class _Writer(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    def __init__(self, name, features, splits, data_dir):
        self.name = name
        self.VERSION = tfds.core.Version(VERSIONS[name])
        self._features = tfds.features.FeaturesDict(features)
        self._splits = splits
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self):
        return _Info(builder=self, features=self._features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return self._splits

    def _generate_examples(self):
        raise NotImplementedError("the generators come ready made")


def _cifar(folder, archive, labels, train_files, test_file):
    """CIFAR's binary version: per example a byte for each of `labels` (key: file of names), then [3, 32, 32] pixels."""
    with tarfile.open(folder / archive) as tar:
        files = {Path(member.name).name: file.read() for member in tar if (file := tar.extractfile(member))}
    names = {key: [name for name in files[file].decode().split("\n") if name] for key, file in labels.items()}
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        **{key: tfds.features.ClassLabel(names=names[key]) for key in labels},
    }

    def examples(split, members):
        records = np.concatenate([np.frombuffer(files[member], np.uint8) for member in members])
        for i, record in enumerate(records.reshape(-1, len(labels) + 3072)):
            image = record[len(labels) :].reshape(3, 32, 32).transpose(1, 2, 0)
            values = dict(zip(labels, record[: len(labels)].tolist(), strict=True))
            yield i, {"id": f"{split}_{i:05d}", "image": _png(image), **values}

    return features, {"train": examples("train", train_files), "test": examples("test", [test_file])}


def _cifar10(folder):
    train_files = [f"data_batch_{i}.bin" for i in range(1, 6)]
    return _cifar(folder, "cifar-10-binary.tar.gz", {"label": "batches.meta.txt"}, train_files, "test_batch.bin")


def _cifar100(folder):
    labels = {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"}
    return _cifar(folder, "cifar-100-binary.tar.gz", labels, ["train.bin"], "test.bin")


def _svhn(folder):
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }

    def examples(split):
        arrays = loadmat(folder / f"{split}_32x32.mat")
        for i, label in enumerate(arrays["y"].ravel().tolist()):
            # the digit 0 is stored as 10
            yield i, {"id": f"{split}_{i:06d}", "image": _png(arrays["X"][..., i]), "label": label % 10}

    return features, {split: examples(split) for split in ("train", "test")}


def _fashion_mnist(folder):
    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(names=GARMENTS),
    }

    def examples(prefix):
        pixels, labels = (
            np.frombuffer(gzip.decompress((folder / f"{prefix}-{kind}-ubyte.gz").read_bytes()), np.uint8, offset=header)
            for kind, header in (("images-idx3", 16), ("labels-idx1", 8))
        )
        for i, (image, label) in enumerate(zip(pixels.reshape(-1, 28, 28), labels.tolist(), strict=True)):
            yield i, {"image": _png(image), "label": label}

    return features, {"train": examples("train"), "test": examples("t10k")}


READERS = {"cifar10": _cifar10, "cifar100": _cifar100, "svhn_cropped": _svhn, "fashion_mnist": _fashion_mnist}


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    return file
