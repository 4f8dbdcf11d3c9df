"""The one exception that a user's input can raise."""


class InputError(ValueError):
    """Input that cannot be used; its message is one line: what is wrong, where, and how to mend it."""
