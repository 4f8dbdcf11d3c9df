import os
from pathlib import Path

import pytest

from saal_jax.data import builders, load

from . import archives
from .refusals import refusal

REAL = Path(__file__).parents[3] / "shared" / "data" / "tfds"


@pytest.fixture(autouse=True)
def at_home_nowhere(monkeypatch, tmp_path_factory):
    """No test reads or writes the caches and data sets of who runs it, nor asks a proxy."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A data directory in which all four data sets were prepared from tiny archives."""
    data_dir = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
        for name in ("cifar10", "cifar100", "svhn_cropped", "fashion_mnist"):
            folder = tmp_path_factory.mktemp(name)
            archives.write(name, folder)
            with archives.served(folder) as address:
                patch.setitem(builders.ARCHIVES, name, archives.table(folder, address))
                load(name, data_dir=str(data_dir), cache_dir=str(folder / "cache"))
    return data_dir


@pytest.fixture
def refused():
    """Calls `load`, which must raise an `InputError` of one line that contains all of `words`."""

    return lambda *words, **arguments: refusal(load, arguments.pop("name"), *words, **arguments)


@pytest.fixture
def real():
    """The directory of the real data sets, which not every machine has."""
    if not REAL.is_dir():
        pytest.skip(f"{os.path.relpath(REAL)} with real images is not on this machine")
    return str(REAL)


@pytest.fixture
def real_folder():
    """The directory that holds a real folder of that name, which not every machine has."""

    def directory(name):
        if not (REAL.parent / name).is_dir():
            pytest.skip(f"{os.path.relpath(REAL.parent / name)} with real images is not on this machine")
        return str(REAL.parent)

    return directory
