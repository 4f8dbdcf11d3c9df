"""SAAL on Fashion-MNIST at the size of a laptop: what `experiments.compare` compares all methods in.

Command: python -m experiments.run --config=fashion_mnist_saal_small
Protocol: ResNet-18 of width 16, dropout .3, Adam, weights carried over; 20 class-balanced labels, then 10 queries of
  10 from a random 1,000; batch 10, 8 epochs per cycle; the first 2,000 test images; 3 seeds.
Reference: none is published for this setting.
Deviations: a setting of our own, made to fit all methods and 3 seeds into four hours of one CPU core.
"""

from experiments.configs import fashion_mnist_saal

config = fashion_mnist_saal.config.but(
    test_split="test[:2000]",
    cycles=10,
    epochs=8,
    pool_subset=1000,
    model={"width": 16, "dropout": 0.3},
    optimizer={"name": "adam"},
)
