"""BALD (Houlsby et al. 2011; Gal et al., ICML 2017): sampled networks are sure, but of different classes.

Cost: `samples` forward passes per example; of an ensemble one for each member.
Scales: time N log N, memory N.
"""

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le

from saal_jax.acquisitions._scored import sampled
from saal_jax.scores import uncertainty


def bald(sample_logits: Callable, *, samples: Annotated[int, Ge(2), Le(10_000)] = 20) -> Callable:
    """The images whose label has the most mutual information with the weights.

    Where the recipe samples by dropout, that is on the pooled features before the linear layer; an ensemble needs none.
    """
    return sampled(uncertainty.mutual_information, sample_logits, samples)
