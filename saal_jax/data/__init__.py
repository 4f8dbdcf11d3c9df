"""Images and labels by name: a TFDS data set, a folder of images, an `.npz` file, or the embedded digits."""

from saal_jax.data.load import Data, Split, load

__all__ = ["Data", "Split", "load"]
