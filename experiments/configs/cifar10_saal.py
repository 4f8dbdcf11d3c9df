"""SAAL on CIFAR-10, ResNet-18 trained by SAM and carried over: the published protocol.

Command: python -m experiments.run --config=cifar10_saal
Protocol: 20 class-balanced labels, then 100 queries of 10 from a random 2,000; batch 10, 50 epochs per cycle; 3 seeds.
Reference: final 56.5 +- 0.8, area under the curve 45.3 (released curves, 3 seeds);
  best of cycles 57.0 (printed by the authors).
Deviations: random draws come from JAX's generator, so a seed's first labels and weights are not the authors'; k-means++
  draws uniformly where all remaining distances are zero, where the released program stops.
"""

from experiments.configs import _published

config = _published.config.but(
    dataset="cifar10",
    augmentation={"name": "crop_and_flip"},
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)
