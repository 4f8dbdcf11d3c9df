"""SAAL on SVHN, ResNet-18 trained by SAM and carried over: the published protocol.

Command: python -m experiments.run --config=svhn_cropped_saal
Protocol: the split `train`, without `extra`; 20 class-balanced labels, then 100 queries of 10 from a random 2,000;
  batch 10, 50 epochs per cycle; 3 seeds.
Reference: final not released; best of cycles 78.8 (printed by the authors).
Deviations: random draws come from JAX's generator, so a seed's first labels and weights are not the authors'; k-means++
  draws uniformly where all remaining distances are zero, where the released program stops.
"""

from experiments.configs import _published

config = _published.config.but(
    dataset="svhn_cropped",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
