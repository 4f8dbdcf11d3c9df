"""Keys of one generator, threefry2x32, whatever JAX's default is: a draw depends on its key alone.

From the key of a seed down, every key has a name, and is used once: for one draw, or for the keys of names below it.

Others (rbg) draw for one example what depends on its neighbours under `vmap`, so that a choice would depend on the
order of the pool.
"""

import zlib

import jax
import jax.numpy as jnp

from saal_jax.errors import InputError

GENERATOR = "threefry2x32"
DRAWS = 2  # raised whenever the same config draws otherwise; 1 took small numbers for names


def make_key(seed: int) -> jax.Array:
    """The key of a seed."""
    return jax.random.key(seed, impl=GENERATOR)


def named(key: jax.Array, word: str, *numbers: int | jax.Array) -> jax.Array:
    """The key of that name below `key`: a word, with numbers of cycles, epochs, steps or examples behind it only.

    >>> key = make_key(0)
    >>> bool(jax.random.bits(named(key, "epoch", 3)) == jax.random.bits(named(key, "step", 3)))
    False
    """
    for part in (zlib.crc32(word.encode()), *numbers):
        key = jax.random.fold_in(key, part)
    return key


def of_each(key: jax.Array, ids: jax.Array) -> jax.Array:
    """A key `[N]` of each example's own, by its id: whatever the order of the examples."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids)


def restore_key(data: jax.Array) -> jax.Array:
    """The key whose `jax.random.key_data` is `data`; `InputError` where that is one of another generator."""
    if data.shape != (2,):
        raise InputError(
            f"the key is {data.dtype}{list(data.shape)}, not of {GENERATOR}: it was made under another "
            "JAX_DEFAULT_PRNG_IMPL and cannot be continued; start a new run"
        )
    return jax.random.wrap_key_data(data, impl=GENERATOR)


def as_threefry(key: jax.Array) -> jax.Array:
    """`key`, or a key of this generator that is drawn from it; takes raw keys (`jax.random.PRNGKey`) too.

    >>> jax.random.key_impl(as_threefry(jax.random.key(0, impl="rbg")))
    'threefry2x32'
    """
    if not isinstance(key, jax.Array):
        raise InputError(f"key is {type(key).__name__}: pass a key of JAX, such as jax.random.key(0)")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if str(jax.random.key_impl(key)) == GENERATOR:
        return key
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl=GENERATOR)
