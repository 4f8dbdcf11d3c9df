"""Paths as a user writes them."""

from pathlib import Path

import pytest

from saal_jax.errors import InputError
from saal_jax.paths import user_path


def test_the_home_folder_is_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_path("~/images") == Path("/home/someone/images")
    assert user_path(Path("~")) == Path("/home/someone")
    assert user_path("a/~/b") == Path("a/~/b")


def test_a_home_folder_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(InputError, match="~nosuchuser/x: there is no such home folder; write the path out"):
        user_path("~nosuchuser/x")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a container's user without an entry
    with pytest.raises(InputError, match="~/x: there is no such home folder"):
        user_path("~/x")
