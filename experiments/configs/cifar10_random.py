"""Random beside cifar10_saal: the same first labels, initial weights and SAM training.

Command: python -m experiments.run --config=cifar10_random
Protocol: that of cifar10_saal; labels are drawn without replacement.
Reference: none released for this setting; about 52-55.6 final at 1,000 labels (other groups, well tuned).
Deviations: those of cifar10_saal.
"""

from experiments.configs import _published, cifar10_saal

config = cifar10_saal.config.but(**_published.random)
