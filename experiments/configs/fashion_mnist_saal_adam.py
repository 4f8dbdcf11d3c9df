"""SAAL on Fashion-MNIST, ResNet-18 trained by Adam, restarted every cycle: the other published setting.

Command: python -m experiments.run --config=fashion_mnist_saal_adam
Protocol: that of fashion_mnist_saal with Adam at 1e-3; every cycle starts from one initialisation.
Reference: final not released; best of cycles 85.8 (printed by the authors).
Deviations: those of fashion_mnist_saal.
"""

from experiments.configs import _published, fashion_mnist_saal

config = fashion_mnist_saal.config.but(**_published.adam)
