"""Folders in which every file is a function of its name: what there is, and what a file says of itself."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable

from saal_jax.errors import InputError


def functions_of(package: str, path: list[str]) -> dict[str, Callable]:
    """The function of each module of a package, by name; a name with an underscore in front is no member.

    Raises InputError, naming the file, where the function is missing.
    """
    names = [name for _, name, _ in pkgutil.iter_modules(path) if not name.startswith("_")]
    return {name: _function(importlib.import_module(f"{package}.{name}"), name) for name in names}


def _function(module, name):
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{module.__file__}: defines no function {name}; name it as its file")
    return function


def describe(function: Callable, *headings: str) -> tuple[str, ...]:
    """The first paragraph of the docstring of a function's module, then the text behind each `Heading: `.

    An indented line continues the one before it. Raises InputError, naming the file, where one is missing.
    """
    module = sys.modules[function.__module__]

    def refuse(lacks):
        raise InputError(f"{module.__file__}: its docstring lacks {lacks}; write it, as the files beside it do")

    summary, *rest = (inspect.getdoc(module) or refuse("a first line on what it is")).split("\n\n")
    lines = "\n\n".join(rest).replace("\n ", " ").split("\n")
    texts = dict(line.split(": ", 1) for line in lines if ": " in line)
    described = (texts.get(heading) or refuse(f"a line `{heading}: ...`") for heading in headings)
    return " ".join(summary.split()), *(" ".join(text.split()) for text in described)
