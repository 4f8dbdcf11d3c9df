"""SAAL on CIFAR-100, ResNet-18 trained by SAM and carried over: the published protocol.

Command: python -m experiments.run --config=cifar100_saal
Protocol: 1,000 class-balanced labels, then 100 queries of 100 from a random 10,000;
  batch 100, 50 epochs per cycle; 3 seeds.
Reference: final not released; best of cycles 48.4 (printed by the authors).
Deviations: random draws come from JAX's generator, so a seed's first labels and weights are not the authors'; k-means++
  draws uniformly where all remaining distances are zero, where the released program stops.
  The mean and std are those the release uses, CIFAR-10's.
"""

from experiments.configs import cifar10_saal

config = cifar10_saal.config.but(
    dataset="cifar100",
    initial_labels=1000,
    query_size=100,
    pool_subset=10_000,
    batch_size=100,
)
