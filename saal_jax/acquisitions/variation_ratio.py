"""Variation ratio (Freeman 1965; Gal and Ghahramani, ICML 2016): sampled networks vote for different classes.

Cost: `samples` forward passes per example; of an ensemble one for each member.
Scales: time N log N, memory N.
"""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le

from saal_jax.acquisitions._scored import sampled
from saal_jax.scores import uncertainty


def variation_ratio(sample_logits: Callable, *, samples: Annotated[int, Ge(2), Le(10_000)] = 20) -> Callable:
    """The images of which the most predictions differ from the most frequent one.

    The score takes one of few values; among equals the choice is random.
    """
    return sampled(uncertainty.variation_ratio, sample_logits, samples)
