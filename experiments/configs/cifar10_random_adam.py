"""Random beside cifar10_saal_adam: the same first labels, initial weights and Adam training.

Command: python -m experiments.run --config=cifar10_random_adam
Protocol: that of cifar10_saal_adam; labels are drawn without replacement.
Reference: none released for this setting; about 52-55.6 final at 1,000 labels (other groups, well tuned).
Deviations: those of cifar10_saal.
"""

from experiments.configs import _published, cifar10_saal_adam

config = cifar10_saal_adam.config.but(**_published.random)
