"""SAAL (Kim, Cho et al., ICML 2023) with its upper bound measured: what `saal` picks, and why its score is large.

Cost: 4 forward passes per example; about 250 more for each of the sample.
Scales: as `saal`; about six arrays of the size of the weights per example of the sample in flight.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
from annotated_types import Ge

from saal_jax.acquisitions.saal import at_labels, choice, pseudo_label_fn_of, score_at
from saal_jax.errors import InputError
from saal_jax.keys import named
from saal_jax.scores import max_perturbed_loss, upper_bound_terms
from saal_jax.select import selectors
from saal_jax.tasks import Task

_TERMS, _SCORES = ("loss", "gradient", "eigenvalue"), ("adaptive", "plain")


def saal_bound(
    apply: Callable,
    task: Task,
    *,
    mode: Literal["max", "diff", "max_diversity", "diff_diversity"] = "max_diversity",
    labels: Literal["pseudo", "true", "inverse_pseudo"] = "pseudo",
    rho: Annotated[float, Ge(0)] = 0.05,
    adaptive: bool = True,
    precision: Literal["float32", "tf32", "bfloat16"] = "float32",
    sample: Annotated[int, Ge(2)] = 256,
) -> Callable:
    """The images that `saal` chooses with these options, and how its score relates to the terms of its upper bound.

    The terms (`upper_bound_terms`, in float32), and the maximally perturbed loss in its adaptive and its plain form,
    are computed for a random `sample` of the candidates. The metrics are `mean_*` of the five, and the Pearson
    `correlation_TERM_SCORE` over the sample of each term (`loss`, `gradient`, `eigenvalue`) with each form of the score
    (`adaptive`, `plain`): NaN where one of the two is constant.
    """
    if task.regions > 1:
        raise InputError("acquisition saal_bound measures whole images, but regions of them are bought: use saal")
    pseudo_label_fn = pseudo_label_fn_of(labels, task)
    choose = choice(apply, task, pseudo_label_fn, mode=mode, rho=rho, adaptive=adaptive, precision=precision)

    def terms_and_scores(apply_fn, params, images, labels):
        options: dict[str, Any] = {"rho": rho, "pseudo_label_fn": pseudo_label_fn}
        terms = upper_bound_terms(apply_fn, params, images, labels, loss_fn=task.precise_loss_fn, **options)
        scores = [
            max_perturbed_loss(
                apply_fn, params, images, labels, adaptive=form == "adaptive", loss_fn=task.loss_fn, **options
            )
            for form in _SCORES
        ]
        return jnp.stack([*terms, *scores], axis=-1)

    score_fn = score_at(apply, terms_and_scores)

    def choose_and_measure(query, answers):
        acquired, pool = choose(query, answers), query.pool
        size = min(sample, len(pool.ids))
        drawn = selectors.random_k(named(query.key, "sample"), pool.ids, query.available, size)
        mask = np.zeros(len(pool.ids), bool)
        mask[np.asarray(drawn.indices)[: int(drawn.count)]] = True
        measured = query.sweep(score_fn, query.weights, (pool.images, answers), mask, most=size)[mask]
        return acquired._replace(metrics={**acquired.metrics, **_relations(np.float64(measured))})

    return at_labels(choose_and_measure, labels, task)


def _relations(measured):
    """Means and correlations by name of `measured[N, 5]`: terms and scores of the sampled images."""
    columns = dict(zip((*_TERMS, *_SCORES), measured.T, strict=True))
    means = {f"mean_{name}": float(np.mean(values)) for name, values in columns.items()}
    correlations = {
        f"correlation_{term}_{score}": _pearson(columns[term], columns[score]) for term in _TERMS for score in _SCORES
    }
    return means | correlations


def _pearson(first, second):
    if not (np.ptp(first) and np.ptp(second)):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
