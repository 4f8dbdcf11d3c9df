"""LL4AL (Yoo and Kweon, CVPR 2019): a module trained beside the network predicts the largest loss.

Cost: 1 forward pass per example.
Scales: time N log N, memory N.
"""

from collections.abc import Callable

from saal_jax.acquisitions._scored import scored


def ll4al(predicted_loss: Callable) -> Callable:
    """The images of the largest predicted loss."""
    return scored(predicted_loss)
