"""Folders of methods: what is wrong with a new file is said in a line that names it."""

import importlib
import sys

import pytest

from saal_jax import InputError
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.recipes import RECIPES
from saal_jax.registry import describe, functions_of

WHOLE = '''"""Mine (Me 2026): what is
mine.

Cost: 1 pass,
  and another.
Scales: not.
"""


def mine():
    pass
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Writes `mine.py` into a package and returns its functions."""
    package = tmp_path / "methods_of_ones_own"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_shared.py").write_text("raise NotImplementedError")  # is no member
    monkeypatch.syspath_prepend(tmp_path)

    def load(text):
        (package / "mine.py").write_text(text)
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.startswith(package.name)]:
            del sys.modules[name]
        return functions_of(package.name, [str(package)])

    yield load
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]


def test_a_whole_file_is_described(folder):
    described = describe(folder(WHOLE)["mine"], "Cost", "Scales")
    assert described == ("Mine (Me 2026): what is mine.", "1 pass, and another.", "not.")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("def mine", "def other", "mine.py: defines no function mine; name it as its file"),
        ("Scales: not.", "Scale: not.", "mine.py: its docstring lacks a line `Scales: ...`; write it"),
        ('"""', "", "mine.py: its docstring lacks a first line"),
    ],
)
def test_what_a_file_lacks_is_said_in_a_line(folder, before, after, words):
    text = WHOLE.replace(before, after) if after else WHOLE[WHOLE.index("def") :]
    with pytest.raises(InputError) as error:
        describe(folder(text)["mine"], "Cost", "Scales")
    assert words in str(error.value)


def test_every_file_of_the_library_is_whole():
    for function in ACQUISITIONS.values():
        title, *_ = describe(function, "Cost", "Scales")
        assert ": " in title
    for function in RECIPES.values():
        describe(function)
