"""How uncertain is a network about an image? Pure functions of its logits; higher is more informative."""

import jax
import jax.numpy as jnp

from saal_jax.errors import InputError
from saal_jax.typing import Array


def entropy(logits: Array) -> jax.Array:
    """Entropy in nats `[B]` of the predicted classes, - sum_c p_c log p_c, of `logits[B, C]` (Shannon 1948).

    >>> import jax.numpy as jnp
    >>> print(entropy(jnp.array([[0.0, 0.0], [100.0, 0.0]])).round(4))  # log 2, and certainty
    [0.6931 0.    ]
    """
    return _entropy(_log_probabilities(logits, "[B, C]"))


def least_confidence(logits: Array) -> jax.Array:
    """One minus the largest probability `[B]`, of `logits[B, C]` (Lewis and Gale, SIGIR 1994).

    >>> import jax.numpy as jnp
    >>> print(least_confidence(jnp.array([[0.0, 0.0], [jnp.log(3), 0.0]])).round(4))
    [0.5  0.25]
    """
    return -jnp.expm1(_log_probabilities(logits, "[B, C]").max(-1))


def margin(logits: Array) -> jax.Array:
    """The second largest probability minus the largest `[B]`, of `logits[B, C]` (Scheffer et al., IDA 2001).

    >>> import jax.numpy as jnp
    >>> print(margin(jnp.array([[0.0, 0.0], [jnp.log(3), 0.0]])).round(4))
    [ 0.  -0.5]
    """
    log_p = _log_probabilities(logits, "[B, C]")
    largest, second = log_p.max(-1), jnp.where(_largest(log_p), -jnp.inf, log_p).max(-1)
    return jnp.exp(largest) * jnp.expm1(second - largest)


def variation_ratio(sample_logits: Array) -> jax.Array:
    """The share `[B]` of T sampled predictions that are not the most frequent class, of `sample_logits[B, T, C]`
    (Freeman 1965; Gal and Ghahramani, ICML 2016).

    >>> import jax.numpy as jnp
    >>> variation_ratio(jnp.array([[[2.0, 1.0], [3.0, 0.0], [0.0, 1.0], [5.0, 4.0]]]))
    Array([0.25], dtype=float32)
    """
    log_p = _log_probabilities(sample_logits, "[B, T, C]")
    return 1 - _largest(log_p).mean(1, dtype=log_p.dtype).max(-1)


def mutual_information(sample_logits: Array) -> jax.Array:
    """The information of the label about the weights, in nats `[B]`, from `sample_logits[B, T, C]`: BALD.

    The entropy of the mean prediction minus the mean entropy of the T predictions (Houlsby et al. 2011; Gal et al.,
    ICML 2017), computed as the mean over t of KL(p_t || mean p).

    >>> import jax.numpy as jnp
    >>> certain, other = [100.0, 0.0], [0.0, 100.0]
    >>> print(mutual_information(jnp.array([[certain, certain], [certain, other]])).round(4))  # log 2 for a dispute
    [0.     0.6931]
    """
    log_p = _log_probabilities(sample_logits, "[B, T, C]")
    mean = jax.nn.logsumexp(log_p, axis=1, keepdims=True) - jnp.log(jnp.asarray(log_p.shape[1], log_p.dtype))
    information = jnp.where(log_p == -jnp.inf, 0, jnp.exp(log_p) * (log_p - mean)).sum(-1).mean(1)
    return jnp.maximum(information, 0)


def _entropy(log_p):
    return jnp.where(log_p == -jnp.inf, 0, -jnp.exp(log_p) * log_p).sum(-1)


def _log_probabilities(logits, shape):
    """`log_softmax`, but exact near 0 as well: networks are so sure that 1 - p is often lost in rounding."""
    logits = jnp.asarray(logits)
    if logits.ndim != shape.count(",") + 1 or 0 in logits.shape[1:]:
        raise InputError(f"logits have the shape {list(logits.shape)}: they must be {shape}, with C at least 1")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    shifted = logits - logits.max(-1, keepdims=True)
    others = jnp.where(_largest(shifted), 0, jnp.exp(shifted)).sum(-1, keepdims=True)
    return shifted - jnp.log1p(others)


def _largest(values):
    """Where each row has its largest value; of several the first."""
    return jax.nn.one_hot(values.argmax(-1), values.shape[-1], dtype=bool)
