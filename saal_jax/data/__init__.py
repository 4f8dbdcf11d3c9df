"""Images and their labels by name: one class for each, boxes around objects, or a mask.

From TFDS data sets, folders of files, `.npz` files, or sets that are made or embedded here.
"""

from saal_jax.data.load import Data, Split, load
from saal_jax.data.load_boxes import load_boxes
from saal_jax.data.load_masks import load_masks

__all__ = ["Data", "Split", "load", "load_boxes", "load_masks"]
