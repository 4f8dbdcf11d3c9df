"""Preparing the four data sets from archives in their official formats, over HTTP."""

import hashlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from saal_jax.data import builders, load
from saal_jax.data.download import Archive

from . import archives

NAMES = ("cifar10", "cifar100", "svhn_cropped", "fashion_mnist")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder of CIFAR-10's archive, served, and the table that describes it."""
    folder = tmp_path / "source"
    folder.mkdir()
    archives.write("cifar10", folder)
    with archives.served(folder) as address:
        monkeypatch.setitem(builders.ARCHIVES, "cifar10", archives.table(folder, address))
        yield folder


def files_below(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []


def debris(data_dir):
    return files_below(data_dir) + files_below(Path(tempfile.gettempdir()))


@pytest.mark.parametrize("name", NAMES)
def test_pixels_labels_and_ids_are_those_of_the_archive(name, tiny, tmp_path):
    data = load(name, data_dir=str(tiny), cache_dir=str(tmp_path))
    for split, want in archives.content(name).items():
        got = getattr(data, split)
        digits = 6 if name == "svhn_cropped" else 5
        if name == "fashion_mnist":  # has no ids: the position in the split, which is shuffled, names an example
            assert got.ids.tolist() == [f"{split}_{i:05d}" for i in range(len(want[1]))]
            order = [int(np.flatnonzero((want[0] == image).all((1, 2, 3)))[0]) for image in got.images]
            assert sorted(order) == list(range(len(order)))
        else:
            order = [int(example.removeprefix(f"{split}_")) for example in got.ids]
            assert got.ids.tolist() == [f"{split}_{i:0{digits}d}" for i in order]
            assert sorted(order) == list(range(len(want[1])))
        assert order != sorted(order)
        assert np.array_equal(got.images, want[0][order])
        assert np.array_equal(got.labels, want[1][order])
        assert (got.images.dtype, got.labels.dtype) == (np.uint8, np.int32)


@pytest.mark.parametrize("name", NAMES)
def test_features_version_and_splits_are_those_of_tfds(name, tiny):
    theirs = tfds.builder(name, data_dir=str(tiny.parent / "empty"))
    ours = tfds.builder_from_directory(tiny / name / str(theirs.version))
    assert set(ours.info.features) == set(theirs.info.features)
    for key, feature in theirs.info.features.items():
        assert type(ours.info.features[key]) is type(feature)
        assert ours.info.features[key].shape == feature.shape
        assert getattr(ours.info.features[key], "num_classes", 0) == getattr(feature, "num_classes", 0)
    assert ours.info.supervised_keys == theirs.info.supervised_keys == ("image", "label")
    assert {split: info.num_examples for split, info in ours.info.splits.items()} == archives.COUNTS


@pytest.mark.parametrize("name", NAMES)
def test_tfds_reads_the_result_as_its_own(name, tiny, tmp_path):
    examples = list(tfds.data_source(name, split="train", data_dir=str(tiny)))
    data = load(name, data_dir=str(tiny), cache_dir=str(tmp_path))
    assert np.array_equal(np.stack([example["image"] for example in examples]), data.train.images)
    assert [example["label"] for example in examples] == data.train.labels.tolist()
    if name == "cifar100":
        assert [example["coarse_label"] for example in examples] == (data.train.labels // 5).tolist()


def test_class_names(tiny, tmp_path):
    names = {name: load(name, data_dir=str(tiny), cache_dir=str(tmp_path)).class_names for name in NAMES}
    assert names["cifar10"] == tuple(archives.PLANES)
    assert names["cifar100"] == tuple(archives.FINE)
    assert names["svhn_cropped"] == tuple("0123456789")
    assert names["fashion_mnist"][0] == "T-shirt/top" and names["fashion_mnist"][9] == "Ankle boot"


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_the_published_one(name):
    """TFDS ships sizes and checksums of the official archives."""
    root = tfds.core.tfds_path()
    path = root / "datasets" / name / "checksums.tsv"
    path = path if path.exists() else root / "url_checksums" / f"{name}.txt"
    published = [line.split("\t") for line in path.read_text().splitlines()]
    wanted = {url: (int(size), sha256) for url, size, sha256, *_ in published if "extra" not in url}
    assert {a.url: (a.size, a.sha256) for a in builders.ARCHIVES[name]} == wanted
    assert builders.VERSIONS[name] == str(tfds.builder_cls(name).VERSION)


def test_prepared_once_and_nothing_else_left(source, tmp_path):
    data_dir = tmp_path / "new" / "tfds"  # neither folder exists
    load("cifar10", data_dir=str(data_dir), cache_dir=str(tmp_path / "cache"))
    assert [p.name for p in data_dir.iterdir()] == ["cifar10"]
    assert [p.name for p in (data_dir / "cifar10").iterdir()] == ["3.0.2"]
    assert not files_below(Path(tempfile.gettempdir()))
    (source / "cifar-10-binary.tar.gz").unlink()  # a second download would fail
    again = load("cifar10:3.*.*", data_dir=str(data_dir), cache_dir=str(tmp_path / "cache"))
    assert len(again.train.labels) == 20


def test_default_data_dir(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    load("cifar10", cache_dir=str(tmp_path / "cache"))
    assert (tmp_path / "default" / "cifar10" / "3.0.2" / "dataset_info.json").exists()


@pytest.mark.slow
def test_two_at_once(source, tmp_path):
    table = [tuple(archive) for archive in builders.ARCHIVES["cifar10"]]
    code = (
        "from saal_jax.data import builders, download, load;"
        f"builders.ARCHIVES['cifar10'] = [download.Archive(*row) for row in {table}];"
        f"print(load('cifar10', data_dir={str(tmp_path / 'tfds')!r}, cache_dir={str(tmp_path / 'cache')!r}).digest)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # the digest is all that goes to standard output
    assert printed[0] == printed[1] and len(printed[0].splitlines()) == 1
    assert [p.name for p in (tmp_path / "tfds").iterdir()] == ["cifar10"]
    assert [p.name for p in (tmp_path / "tfds" / "cifar10").iterdir()] == ["3.0.2"]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_another_process_was_faster(source, tiny, tmp_path, monkeypatch):
    """Between our look and our rename, the data set appears."""
    data_dir, prepare = tmp_path / "tfds", builders._Writer.download_and_prepare

    def slow(self, **options):
        prepare(self, **options)
        shutil.copytree(tiny / "cifar10", data_dir / "cifar10")

    monkeypatch.setattr(builders._Writer, "download_and_prepare", slow)
    load("cifar10", data_dir=str(data_dir), cache_dir=str(tmp_path / "cache"))
    assert [p.name for p in data_dir.iterdir()] == ["cifar10"]


def test_incomplete_copy_is_neither_read_nor_replaced(tiny, tmp_path, refused):
    copy = tmp_path / "tfds" / "cifar10" / "3.0.2"
    shutil.copytree(tiny / "cifar10" / "3.0.2", copy, ignore=shutil.ignore_patterns("features.json"))
    before = files_below(tmp_path)
    refused(copy, "features.json", name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert files_below(tmp_path) == before


def test_no_registration():
    """TFDS finds its own builders under the four names, before and after ours are imported."""
    for name in NAMES:
        assert tfds.builder_cls(name).__module__.startswith("tensorflow_datasets")


def damaged(archive, **change):
    return [archive[0]._replace(**change)]


def test_wrong_checksum(source, tmp_path, monkeypatch, refused):
    table = builders.ARCHIVES["cifar10"]
    monkeypatch.setitem(builders.ARCHIVES, "cifar10", damaged(table, sha256="0" * 64))
    have = hashlib.sha256((source / "cifar-10-binary.tar.gz").read_bytes()).hexdigest()
    refused(table[0].url, have, "0" * 64, name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert not debris(tmp_path / "tfds")


@pytest.mark.parametrize("off, word", [(1, "instead of"), (-1, "over")])
def test_wrong_size(source, tmp_path, monkeypatch, refused, off, word):
    table = builders.ARCHIVES["cifar10"]
    monkeypatch.setitem(builders.ARCHIVES, "cifar10", damaged(table, size=table[0].size + off))
    refused(table[0].url, word, f"{table[0].size + off:,};", name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert not debris(tmp_path / "tfds")


@contextmanager
def sending(blocks):
    """The table of an archive of 1,000 bytes whose server sends `blocks` and hangs up."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000" if len(blocks) == 1 else "1000000000")
            self.end_headers()
            with suppress(ConnectionError):
                for block in blocks:
                    self.wfile.write(block)

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield [Archive(f"http://127.0.0.1:{server.server_address[1]}/cifar-10-binary.tar.gz", 1000, "0" * 64)]
    server.shutdown()
    server.server_close()


def test_connection_lost_midway(tmp_path, monkeypatch, refused):
    with sending([b"x" * 500]) as table:
        monkeypatch.setitem(builders.ARCHIVES, "cifar10", table)
        refused(table[0].url, "500 bytes", "1,000", name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert not debris(tmp_path / "tfds")


def test_more_than_was_asked_for_is_not_fetched(tmp_path, monkeypatch, refused):
    sent = []

    class Blocks:
        def __len__(self):
            return 1000

        def __iter__(self):
            for i in range(1000):
                sent.append(i)
                yield b"x" * 1_000_000

    with sending(Blocks()) as table:
        monkeypatch.setitem(builders.ARCHIVES, "cifar10", table)
        refused(table[0].url, "over 1,000 bytes", name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert len(sent) < 100  # what sockets buffer, not the gigabyte
    assert not debris(tmp_path / "tfds")


def test_not_on_the_server(source, tmp_path, refused):
    (source / "cifar-10-binary.tar.gz").unlink()
    refused("127.0.0.1", "404", "as data_dir", name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert not debris(tmp_path / "tfds")


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "host.invalid"])
def test_unreachable_host(host, tmp_path, monkeypatch, refused):
    url = f"http://{host}:{closed_port()}/cifar-10-binary.tar.gz"
    monkeypatch.setitem(builders.ARCHIVES, "cifar10", [Archive(url, 1000, "0" * 64)])
    refused(host, "as data_dir", name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert not debris(tmp_path / "tfds")


@pytest.mark.slow  # by the clock: TFDS by itself asks for 200 s
@pytest.mark.parametrize("host", ["127.0.0.1", "host.invalid"])
def test_an_unreachable_host_is_not_asked_again_and_again(host, tmp_path, monkeypatch, refused):
    url = f"http://{host}:{closed_port()}/cifar-10-binary.tar.gz"
    monkeypatch.setitem(builders.ARCHIVES, "cifar10", [Archive(url, 1000, "0" * 64)])
    start = time.monotonic()
    refused(host, name="cifar10", data_dir=str(tmp_path / "tfds"))
    assert time.monotonic() - start < 20


def test_host_that_never_answers(tmp_path, monkeypatch, refused):
    """A listening socket that nobody serves stands for a silent host."""
    monkeypatch.setattr("saal_jax.data.download.CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/cifar-10-binary.tar.gz"
        monkeypatch.setitem(builders.ARCHIVES, "cifar10", [Archive(url, 1000, "0" * 64)])
        refused("no answer", "127.0.0.1", name="cifar10", data_dir=str(tmp_path / "tfds"))


def test_disk_full_leaves_no_half_data_set(source, tmp_path, monkeypatch, refused):
    def full(self, **_):
        (self.data_path.parent / "half").mkdir(parents=True)
        assert files_below(data_dir)
        raise OSError(28, "No space left on device")

    data_dir = tmp_path / "tfds"
    monkeypatch.setattr(builders._Writer, "download_and_prepare", full)
    refused("No space left", data_dir, name="cifar10", data_dir=str(data_dir))
    assert not debris(data_dir)


def test_data_dir_below_a_file(tmp_path, refused):
    (tmp_path / "file").write_text("")
    refused("cannot be written", tmp_path / "file", name="cifar10", data_dir=str(tmp_path / "file" / "tfds"))


def test_neither_tensorflow_nor_tfds_until_needed():
    code = (
        "import sys, json, saal_jax.data as d; early = 'tensorflow_datasets' in sys.modules; d.load('digits');"
        "print(json.dumps([early, 'tensorflow_datasets' in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == [False, False]
    assert "tensorflow" not in sys.modules
