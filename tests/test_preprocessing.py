"""Normalisation and augmentation."""

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.preprocessing import crop_and_flip, normalize


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
