"""Old names of arguments, accepted for one release."""

import functools
import warnings
from collections.abc import Callable
from typing import TypeVar, cast

_Function = TypeVar("_Function", bound=Callable)


def renamed(**names: str) -> Callable[[_Function], _Function]:
    """Decorates a function that takes arguments under their old names too: `renamed(old="new")`.

    >>> @renamed(pool="arrays")
    ... def size(arrays):
    ...     return len(arrays)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     size(pool=[1, 2])
    2
    """

    def decorate(fun: _Function) -> _Function:
        @functools.wraps(fun)
        def wrapped(*args, **kwargs):
            for old in names.keys() & kwargs.keys():
                if names[old] in kwargs:
                    raise TypeError(f"{fun.__name__}: {old} and {names[old]} are one argument: pass {names[old]} alone")
                message = f"{fun.__name__}: the argument {old} is now called {names[old]}"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[names[old]] = kwargs.pop(old)
            return fun(*args, **kwargs)

        return cast(_Function, wrapped)

    return decorate
