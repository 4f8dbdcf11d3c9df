"""Random beside svhn_cropped_saal: the same first labels, initial weights and SAM training.

Command: python -m experiments.run --config=svhn_cropped_random
Protocol: that of svhn_cropped_saal; labels are drawn without replacement.
Reference: none released for this setting; 68-73 final at 1,000 labels (other groups, well tuned).
Deviations: those of svhn_cropped_saal.
"""

from experiments.configs import _published, svhn_cropped_saal

config = svhn_cropped_saal.config.but(**_published.random)
