"""What a user's input can raise: one exception, and warnings."""

import sys
import warnings


class InputError(ValueError):
    """Input that cannot be used; its message is one line: what is wrong, where, and how to correct it."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))  # what is quoted may have several


def one_line(error: BaseException) -> str:
    """The message of a library's error, fit to be quoted in ours."""
    try:
        return " ".join(str(error).split())[:200] or type(error).__name__
    except Exception:  # one that cannot even be shown
        return type(error).__name__


def warn(text: str) -> None:
    """A warning at the line that called this package, however deep in it the reason was noticed."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals["__name__"].startswith("saal_jax."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
