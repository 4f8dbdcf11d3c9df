"""The terms of SAAL's upper bound beside its score, on CIFAR-10; the choice is that of cifar10_saal.

Command: python -m experiments.run --config=cifar10_saal_bound
Protocol: that of cifar10_saal; with every query the terms of 256 random candidates, written to query_metrics.csv.
Reference: read by eye (+-.005) off an authors' figure of a run with a small budget, whose data set is not legible, from
  the first to the hundredth cycle. Correlation of the score with the loss .985 -> .988, with the gradient term
  .68 -> .976, with the eigenvalue term .345 -> .924; means of the terms .56 -> .145, .027 -> .0083, .0115 -> .0075.
Deviations: those of cifar10_saal; which form of the ascent, and how many images, the figure is of is not stated.
"""

from experiments.configs import cifar10_saal

config = cifar10_saal.config.but(acquisition={"name": "saal_bound"})
