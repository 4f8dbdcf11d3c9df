"""Tiny archives in the official formats of the four data sets, served from this machine."""

import gzip
import hashlib
import io
import struct
import tarfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from scipy.io import savemat

from saal_jax.data.download import Archive

COUNTS = {"train": 20, "test": 10}
FINE, COARSE = [f"fine{i}" for i in range(100)], [f"coarse{i}" for i in range(20)]
PLANES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def content(name, seed=0):
    """The pixels and labels that the archives of `name` hold: `{split: (images, labels)}`."""
    rng = np.random.default_rng([seed, *name.encode()])
    shape = (28, 28, 1) if name == "fashion_mnist" else (32, 32, 3)
    classes = 100 if name == "cifar100" else 10
    return {
        split: (rng.integers(0, 256, (n, *shape), np.uint8), rng.permutation(max(n, classes))[:n] % classes)
        for split, n in COUNTS.items()
    }


def write(name, folder):
    """Writes the archives of `name` into `folder`; returns their file names."""
    {"cifar10": _cifar10, "cifar100": _cifar100, "svhn_cropped": _svhn, "fashion_mnist": _fashion}[name](
        folder, content(name)
    )
    return sorted(path.name for path in folder.iterdir())


def _tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _records(images, *labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(each.astype(np.uint8)[:, None] for each in labels), planes], axis=1).tobytes()


def _cifar10(folder, data):
    root, (images, labels) = "cifar-10-batches-bin", data["train"]
    files = {f"{root}/batches.meta.txt": "\n".join(PLANES + ["", ""]).encode(), f"{root}/readme.html": b"<html>"}
    for i in range(5):
        files[f"{root}/data_batch_{i + 1}.bin"] = _records(images[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4])
    files[f"{root}/test_batch.bin"] = _records(*data["test"])
    _tar(folder / "cifar-10-binary.tar.gz", files)


def _cifar100(folder, data):
    root = "cifar-100-binary"
    files = {
        f"{root}/fine_label_names.txt": "\n".join(FINE + [""]).encode(),
        f"{root}/coarse_label_names.txt": "\n".join(COARSE + [""]).encode(),
    }
    for split, (images, labels) in data.items():
        files[f"{root}/{split}.bin"] = _records(images, labels // 5, labels)
    _tar(folder / "cifar-100-binary.tar.gz", files)


def _svhn(folder, data):
    for split, (images, labels) in data.items():
        y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": y}, do_compression=True)


def _fashion(folder, data):
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images, labels = data[split]
        n = len(labels)
        pixels = struct.pack(">4I", 2051, n, 28, 28) + images.tobytes()
        classes = struct.pack(">2I", 2049, n) + labels.astype(np.uint8).tobytes()
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(classes))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """Serves `folder` over HTTP on the loopback address; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def table(folder, address):
    """The archives that lie in `folder`, as `builders.ARCHIVES` lists them."""
    return [
        Archive(address + path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    ]
