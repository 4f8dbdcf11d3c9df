"""Random beside digits_saal: the same first labels, initial weights and training.

Command: python -m experiments.run --config=digits_random
Protocol: that of digits_saal.
Reference: none is published for this data set.
Deviations: those of digits_saal.
"""

from experiments.configs import _published, digits_saal

config = digits_saal.config.but(**_published.random)
