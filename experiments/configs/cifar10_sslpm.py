"""SSLPM, semi-supervised loss prediction, on CIFAR-10.

Command: python -m experiments.run --config=cifar10_sslpm
Protocol: 1,000 labels drawn at random, then 5 queries of 1,000 from all; 200 epochs of SGD at .1 (the module at .05),
  a tenth of it from epoch 160 on, batch 128, then 30 epochs of the module alone; network and module are never
  initialised anew; 3 seeds.
Reference: none was obtained; compare with Random trained alike (--config.acquisition.name=random and another
  --workdir).
Deviations: random draws come from JAX's generator; in the second stage momentum .9 and decay 5e-4 are assumed; the
  budget is LL4AL's, this paper's could not be obtained; the images left out stay 24.
"""

from experiments.configs import _published

config = _published.sslpm.but(**_published.cifar10, initial_labels=1000, query_size=1000, cycles=5)
