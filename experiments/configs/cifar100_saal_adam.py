"""SAAL on CIFAR-100, ResNet-18 trained by Adam, restarted every cycle: the other published setting.

Command: python -m experiments.run --config=cifar100_saal_adam
Protocol: that of cifar100_saal with Adam at 1e-3; every cycle starts from one initialisation.
Reference: final not released; best of cycles 47.6 (printed by the authors).
Deviations: those of cifar100_saal.
"""

from experiments.configs import _published, cifar100_saal

config = cifar100_saal.config.but(**_published.adam)
