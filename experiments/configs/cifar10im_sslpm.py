"""SSLPM, semi-supervised loss prediction, on imbalanced CIFAR-10.

Command: python -m experiments.run --config=cifar10im_sslpm
Protocol: 1,300 labels drawn at random, then 5 queries of 1,300 from all of a pool of classes of 50 and of 5,000
  images in turn; 200 epochs of SGD at .1 (the module at .05), a tenth of it from epoch 160 on, batch 128, then 30
  epochs of the module alone; network and module are never initialised anew; 3 seeds.
Reference: none was obtained; compare with Random trained alike (--config.acquisition.name=random and another
  --workdir).
Deviations: random draws come from JAX's generator; in the second stage momentum .9 and decay 5e-4 are assumed; the
  number of queries is assumed; which images a class keeps is our draw; the images left out stay 24.
"""

from experiments.configs import cifar10_sslpm

config = cifar10_sslpm.config.but(
    initial_labels=1300, query_size=1300, imbalance={"name": "alternating", "few": 50, "many": 5000}
)
