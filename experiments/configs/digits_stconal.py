"""ST-CoNAL on digits; runs in a minute.

Command: python -m experiments.run --config=digits_stconal
Protocol: that of digits_saal (20 class-balanced labels, then 15 queries of 10; small CNN, Adam, cold start; 3 seeds),
  with five snapshots over the last fifth of the training.
Reference: none is published for this data set.
Deviations: a setting of our own, made to be quick: Adam, no augmentation, a fourth of the epochs.
"""

from experiments.configs import digits_saal

config = digits_saal.config.but(recipe={"name": "snapshots"}, acquisition={"name": "st_conal"})
