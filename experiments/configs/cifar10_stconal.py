"""ST-CoNAL on CIFAR-10: the published protocol.

Command: python -m experiments.run --config=cifar10_stconal
Protocol: 1,000 labels drawn at random, then 4 queries of 1,000 from a random 10,000; 200 epochs of SGD at a constant
  rate of .1, batch 128, a new network each cycle; teacher from snapshots at epochs 160, 170, 180, 190 and 200; 3
  trials.
Reference: none was obtained; compare with Random trained alike (--config.acquisition.name=random and another
  --workdir).
Deviations: random draws come from JAX's generator; the normalisation is SAAL's, the paper's is not stated.
"""

from experiments.configs import _published

config = _published.stconal.but(
    **_published.cifar10, initial_labels=1000, query_size=1000, cycles=4, pool_subset=10_000
)
