"""RIPU (Xie et al., CVPR 2022): regions in which the predicted classes are many and each pixel is uncertain.

Cost: 1 forward pass per example.
Scales: time N R log(N R), memory N R.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from saal_jax.acquisitions._scored import scored
from saal_jax.scores import uncertainty
from saal_jax.tasks import Task


def ripu(pixels: Callable, task: Task) -> Callable:
    """The regions of the largest impurity times uncertainty: the entropy of the shares of the predicted classes, times
    the mean entropy of the pixels, both over log C.

    The paper slides its windows over the image and takes the same number from each; here the regions are those of the
    task's grid, and all images compete.
    """

    def score_fn(weights, images):
        outputs = pixels(weights, images)
        classes = outputs.shape[-1]
        shares = task.uncertainty(lambda logits: jax.nn.one_hot(logits.argmax(-1), classes), outputs, "mean")
        impurity = jax.scipy.special.entr(shares).sum(-1)
        return impurity * task.uncertainty(uncertainty.entropy, outputs, "mean") / jnp.log(classes) ** 2

    return scored(score_fn)
