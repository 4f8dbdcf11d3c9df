"""The digits that are embedded in scikit-learn."""

import numpy as np

from saal_jax.data.slices import take_both


def read(split: str, test_split: str):
    """The 1,797 handwritten 8x8 digits; within each class every fourth one is a test image."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int32)
    ids = np.array([f"digits_{i:04d}" for i in range(len(labels))])
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[3::4]] = True
    parts = {name: (pixels[rows], labels[rows], ids[rows]) for name, rows in (("train", ~test), ("test", test))}
    return *take_both(parts, split, test_split, "digits"), map(str, range(10))
