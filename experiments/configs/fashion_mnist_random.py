"""Random beside fashion_mnist_saal: the same first labels, initial weights and SAM training.

Command: python -m experiments.run --config=fashion_mnist_random
Protocol: that of fashion_mnist_saal; labels are drawn without replacement.
Reference: none released for this setting; 84.8 final at 1,000 labels (other groups, well tuned).
Deviations: those of fashion_mnist_saal.
"""

from experiments.configs import _published, fashion_mnist_saal

config = fashion_mnist_saal.config.but(**_published.random)
