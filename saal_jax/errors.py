"""The one exception that a user's input can raise."""


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
