"""LL4AL, learning loss, on CIFAR-10: the published protocol.

Command: python -m experiments.run --config=cifar10_ll4al
Protocol: 1,000 labels drawn at random, then 9 queries of 1,000 from a random 10,000; 200 epochs of SGD at .1, a tenth
  of it from epoch 160 on, batch 128; the module's gradient enters the network until epoch 120; 3 seeds.
Reference: none was obtained; compare with Random trained alike (--config.acquisition.name=random and another
  --workdir).
Deviations: random draws come from JAX's generator; every cycle starts from one initialisation, of which the paper
  says nothing.
"""

from experiments.configs import _published

config = _published.ll4al.but(**_published.cifar10, initial_labels=1000, query_size=1000, cycles=9, pool_subset=10_000)
