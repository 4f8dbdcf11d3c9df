"""SSLPM, semi-supervised loss prediction, on CIFAR-100: the published protocol.

Command: python -m experiments.run --config=cifar100_sslpm
Protocol: 2,500 labels drawn at random, then 5 queries of 2,500 from all; 200 epochs of SGD at .1 (the module at .05),
  a tenth of it from epoch 160 on, batch 128, then 30 epochs of the module alone; network and module are never
  initialised anew; 3 seeds.
Reference: none was obtained; compare with Random trained alike (--config.acquisition.name=random and another
  --workdir).
Deviations: random draws come from JAX's generator; in the second stage momentum .9 and decay 5e-4 are assumed.
"""

from experiments.configs import _published

config = _published.sslpm.but(**_published.cifar100, initial_labels=2500, query_size=2500, cycles=5)
