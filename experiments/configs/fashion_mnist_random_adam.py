"""Random beside fashion_mnist_saal_adam: the same first labels, initial weights and Adam training.

Command: python -m experiments.run --config=fashion_mnist_random_adam
Protocol: that of fashion_mnist_saal_adam; labels are drawn without replacement.
Reference: none released for this setting; 84.8 final at 1,000 labels (other groups, well tuned).
Deviations: those of fashion_mnist_saal.
"""

from experiments.configs import _published, fashion_mnist_saal_adam

config = fashion_mnist_saal_adam.config.but(**_published.random)
