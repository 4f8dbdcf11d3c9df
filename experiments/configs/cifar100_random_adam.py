"""Random beside cifar100_saal_adam: the same first labels, initial weights and Adam training.

Command: python -m experiments.run --config=cifar100_random_adam
Protocol: that of cifar100_saal_adam; labels are drawn without replacement.
Reference: none released for this setting; 48.7 final at 4,000 labels (other groups, well tuned).
Deviations: those of cifar100_saal.
"""

from experiments.configs import _published, cifar100_saal_adam

config = cifar100_saal_adam.config.but(**_published.random)
