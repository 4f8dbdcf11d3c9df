"""SAAL on CIFAR-10, ResNet-18 trained by Adam, restarted every cycle: the other published setting.

Command: python -m experiments.run --config=cifar10_saal_adam
Protocol: that of cifar10_saal with Adam at 1e-3; every cycle starts from one initialisation.
Reference: final 52.7 +- 2.2, area under the curve 40.2 (released curves, 3 seeds);
  best of cycles 54.4 (printed by the authors).
Deviations: those of cifar10_saal.
"""

from experiments.configs import _published, cifar10_saal

config = cifar10_saal.config.but(**_published.adam)
