"""ST-CoNAL on imbalanced CIFAR-100: classes of 5 and of 500 images in turn.

Command: python -m experiments.run --config=cifar100im_stconal
Protocol: that of cifar100_stconal on a pool of 25,250 images; 200 epochs of SGD at a constant rate of .1, batch 128,
  a new network each cycle; teacher from snapshots at epochs 160, 170, 180, 190 and 200; 3 trials.
Reference: none was obtained; compare with Random trained alike (--config.acquisition.name=random and another
  --workdir).
Deviations: random draws come from JAX's generator; which images a class keeps is our draw; the budget is assumed to
  be that of the balanced data set.
"""

from experiments.configs import cifar100_stconal

config = cifar100_stconal.config.but(imbalance={"name": "alternating", "few": 5, "many": 500})
