"""SAAL on the 8x8 digits that ship with scikit-learn; runs in under a minute, nothing is downloaded.

Command: python -m experiments.run --config=digits_saal
Protocol: small CNN, Adam, cold start; 20 class-balanced labels, then 15 queries of 10 from the whole pool; 3 seeds.
Reference: none is published for this data set.
Deviations: a setting of our own, made to be quick; score and selection are the published ones.
"""

from experiments.configs import _published

config = _published.config.but(
    dataset="digits",
    cycles=15,
    pool_subset=None,
    model={"name": "small_cnn"},
    **_published.adam,
)
