"""What is refused is refused in one line."""

import pytest

from saal_jax.errors import InputError


def refusal(load, name, *words, **arguments):
    """The message of the `InputError` that `load(name)` must raise: one line that contains all of `words`."""
    with pytest.raises(InputError) as caught:
        load(name, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message
    return message
