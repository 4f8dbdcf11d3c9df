"""Normalisation and augmentation."""

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.preprocessing import AUGMENTATIONS, crop_and_flip, normalize
from saal_jax.spec import bound


def test_normalize():
    images = jnp.array([[[[0, 255]]]], jnp.uint8)
    np.testing.assert_allclose(normalize(images, (0.5, 0.2), (0.25, 0.4)), [[[[-2.0, 2.0]]]], rtol=1e-6)


def test_every_crop_is_a_window_of_the_padded_image_and_all_occur():
    image = np.arange(1, 26, dtype=np.uint8).reshape(5, 5, 1)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    windows = {
        padded[top : top + 5, left : left + 5][:, ::step].tobytes(): (top, left, step)
        for top in range(9)
        for left in range(9)
        for step in (1, -1)
    }
    crops = crop_and_flip(jax.random.key(0), jnp.asarray(np.repeat(image[None], 3000, 0)))
    assert crops.dtype == jnp.uint8
    seen = [windows[np.asarray(crop).tobytes()] for crop in crops]
    assert len(set(seen)) > 150  # of 162; some corners leave the image nearly black, and so alike
    flipped = np.mean([step == -1 for *_, step in seen])
    assert 0.4 < flipped < 0.6


def test_the_padding_is_an_option():
    images = jnp.arange(2 * 4 * 4 * 1, dtype=jnp.uint8).reshape(2, 4, 4, 1)
    augment = bound(AUGMENTATIONS, {"name": "crop_and_flip", "padding": 0})
    for image, augmented in zip(images, augment(jax.random.key(1), images), strict=True):
        assert any(jnp.array_equal(augmented, as_it_was) for as_it_was in (image, image[:, ::-1]))
