"""SSLPM, semi-supervised loss prediction, on digits; runs in minutes.

Command: python -m experiments.run --config=digits_sslpm
Protocol: that of digits_saal (20 class-balanced labels, then 15 queries of 10; small CNN, Adam, cold start; 3 seeds),
  but weights are carried over; with a loss-prediction module that learns from unlabelled images.
Reference: none is published for this data set.
Deviations: a setting of our own, made to be quick: Adam, the weak view is not augmented, two images left out, 128
  unlabelled ones a step.
"""

from experiments.configs import digits_saal

config = digits_saal.config.but(
    warm_start=True,
    recipe={"name": "semi_supervised_loss_prediction", "left_out": 2, "unlabelled_batch": 128},
    acquisition={"name": "sslpm"},
)
