"""The terms of SAAL's upper bound beside its score, on the 8x8 digits; the choice is that of digits_saal.

Command: python -m experiments.run --config=digits_saal_bound
Protocol: that of digits_saal; with every query the terms of 256 random candidates, written to query_metrics.csv.
Reference: none is published for this data set.
Deviations: those of digits_saal.
"""

from experiments.configs import digits_saal

config = digits_saal.config.but(acquisition={"name": "saal_bound"})
