"""Random beside cifar100_saal: the same first labels, initial weights and SAM training.

Command: python -m experiments.run --config=cifar100_random
Protocol: that of cifar100_saal; labels are drawn without replacement.
Reference: none released for this setting; 48.7 final at 4,000 labels (other groups, well tuned).
Deviations: those of cifar100_saal.
"""

from experiments.configs import _published, cifar100_saal

config = cifar100_saal.config.but(**_published.random)
