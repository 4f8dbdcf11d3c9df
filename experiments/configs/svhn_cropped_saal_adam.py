"""SAAL on SVHN, ResNet-18 trained by Adam, restarted every cycle: the other published setting.

Command: python -m experiments.run --config=svhn_cropped_saal_adam
Protocol: that of svhn_cropped_saal with Adam at 1e-3; every cycle starts from one initialisation.
Reference: final not released; best of cycles 76.8 (printed by the authors).
Deviations: those of svhn_cropped_saal.
"""

from experiments.configs import _published, svhn_cropped_saal

config = svhn_cropped_saal.config.but(**_published.adam)
