"""BADGE (Ash et al., ICLR 2020): gradients at the pseudo label that are large and point apart, by k-means++.

Cost: 1 forward pass per example.
Scales: time N k (C + D), memory N (C + D).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from saal_jax.keys import named
from saal_jax.pool import Acquired
from saal_jax.select.selectors import gradient_kmeans_plusplus
from saal_jax.tasks.classification import residuals


def badge(logits: Callable, features: Callable) -> Callable:
    """k-means++ on the gradients of the loss, at the predicted class, by the weights of the last layer.

    Such a gradient is the outer product of softmax(logits) - onehot(argmax) and the penultimate features. Its norm is
    the score. Embeddings of the user's own have no gradients: they are not looked at.
    """

    def factors_fn(weights, images):
        return jnp.concatenate([residuals(logits(weights, images)), features(weights, images)], axis=1)

    def acquire(query):
        pool, available = query.pool, query.available
        classes = jax.eval_shape(logits, query.weights, pool.images[:1]).shape[1]
        factors = query.sweep(factors_fn, query.weights, pool.images, available)
        by_logits, embeddings = jnp.asarray(factors[:, :classes]), jnp.asarray(factors[:, classes:])
        del factors
        norms = jnp.linalg.norm(by_logits, axis=1) * jnp.linalg.norm(embeddings, axis=1)
        chosen = gradient_kmeans_plusplus(
            named(query.key, "selection"), by_logits, embeddings, pool.ids, available, query.k
        )
        return Acquired(chosen, jax.device_get(norms))

    return acquire
