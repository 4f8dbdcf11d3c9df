"""SAAL (Kim, Cho et al., ICML 2023) spread over the features: k-means++ on embeddings, weighted by the SAAL score.

Cost: 5 forward passes per example; 4 where the embeddings are the user's own.
Scales: time N k D, memory N D; two copies of the weights per example in flight.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge

from saal_jax.acquisitions.saal import score_at
from saal_jax.keys import named
from saal_jax.pool import Acquired, embed
from saal_jax.scores import max_perturbed_loss
from saal_jax.select.selectors import kmeans_plusplus
from saal_jax.tasks import Task


def saal_embeddings(
    apply: Callable,
    features: Callable,
    task: Task,
    *,
    rho: Annotated[float, Ge(0)] = 0.05,
    adaptive: bool = True,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
) -> Callable:
    """The image of the largest maximally perturbed loss, then images of a large one that look different.

    The published method spreads its choice over the range of the scores; here it is spread over the penultimate
    features (or the user's embeddings), drawn in proportion to score times squared distance to what is chosen.
    """
    at = {"loss_fn": task.loss_fn, "pseudo_label_fn": task.pseudo_label_fn}
    score_fn = score_at(apply, max_perturbed_loss, rho=rho, adaptive=adaptive, **at)

    def acquire(query):
        pool, available = query.pool, query.available
        scores = query.sweep(score_fn, query.weights, (pool.images, None), available, precision=precision)
        embeddings = embed(query, features, available)
        return Acquired(
            kmeans_plusplus(named(query.key, "selection"), embeddings, pool.ids, available, query.k, scores), scores
        )

    return acquire
