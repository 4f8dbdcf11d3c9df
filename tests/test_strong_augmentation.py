"""Strong augmentation, against Pillow."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from saal_jax.errors import InputError
from saal_jax.strong_augmentation import POOL, change, cut_out, draw, strong

NAMES = list(POOL)
BLENDS = {
    "Brightness": ImageEnhance.Brightness,
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Sharpness": ImageEnhance.Sharpness,
}
SETTINGS = list(itertools.product(range(len(NAMES)), range(1, 10), (False, True)))
change_each = jax.jit(jax.vmap(change, (None, 0, 0, 0)))
strong_compiled = jax.jit(strong)


def to_pillow(image):
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def by_pillow(image, operation, magnitude, negative):
    """The published pool: an operation, its largest parameter, its offset."""
    picture, name, sign = to_pillow(image), NAMES[operation], -1 if negative else 1
    width, height = picture.size
    share = sign * (float(magnitude) * 0.3 / 10)
    maps = {
        "ShearX": (1, share, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, share, 1, 0),
        "TranslateX": (1, 0, int(share * width), 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, int(share * height)),
    }
    if name in maps:
        result = picture.transform(picture.size, Image.Transform.AFFINE, maps[name])
    elif name in BLENDS:
        result = BLENDS[name](picture).enhance(float(magnitude) * 0.9 / 10 + 0.05)
    else:
        result = {
            "AutoContrast": lambda: ImageOps.autocontrast(picture),
            "Equalize": lambda: ImageOps.equalize(picture),
            "Identity": lambda: picture,
            "Posterize": lambda: ImageOps.posterize(picture, int(magnitude * 4 / 10) + 4),
            "Rotate": lambda: picture.rotate(sign * int(magnitude * 30 / 10)),
            "Solarize": lambda: ImageOps.solarize(picture, 256 - int(magnitude * 256 / 10)),
        }[name]()
    return np.asarray(result).reshape(image.shape)


def cut_out_by_pillow(image, y, x, size):
    picture = to_pillow(image)
    width, height = picture.size
    x0, y0 = int(max(0, x - size / 2)), int(max(0, y - size / 2))
    corners = (x0, y0, int(min(width, x0 + size)), int(min(height, y0 + size)))
    ImageDraw.Draw(picture).rectangle(corners, 127 if image.shape[-1] == 1 else (127, 127, 127))
    return np.asarray(picture).reshape(image.shape)


def pictures(height, width, channels):
    """Noise, a photograph's part, a narrow range of levels, two levels, and constants."""
    rng, shape = np.random.default_rng(0), (height, width, channels)
    photograph = load_sample_image("china.jpg")[100 : 100 + 3 * height : 3, 200 : 200 + 3 * width : 3, :channels]
    noise, narrow = rng.integers(0, 256, shape), rng.integers(90, 140, shape)
    constants = [np.full(shape, level) for level in (0, 77, 255)]
    return [image.astype(np.uint8) for image in (noise, photograph, narrow, rng.choice([3, 200], shape), *constants)]


def by_hand(*shapes):
    """Further shapes, each of which compiles for seconds."""
    return [pytest.param(shape, marks=pytest.mark.slow) for shape in shapes]


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (20, 33, 3), *by_hand((32, 32, 3), (17, 40, 1), (60, 100, 3), (2, 5, 3))], ids=str
)
def test_each_operation_is_pillows_at_all_magnitudes_and_signs(shape):
    for image in pictures(*shape):
        results = np.asarray(change_each(image, *map(np.array, zip(*SETTINGS, strict=True))))
        for (operation, magnitude, negative), result in zip(SETTINGS, results, strict=True):
            expected = by_pillow(image, operation, magnitude, negative)
            if NAMES[operation] == "AutoContrast":  # Pillow's doubles may fall short of a whole level, and only there
                low, high = image.min((0, 1)).astype(int), image.max((0, 1)).astype(int)
                whole = 255 * (image - low) % np.maximum(high - low, 1) == 0
                short = result.astype(int) - expected
                assert ((short == 0) | (short == 1) & whole).all()
            elif NAMES[operation] in BLENDS and magnitude == 6:  # a factor of .59: see the next test
                assert (np.abs(result.astype(int) - expected) <= 1).all()
            else:
                np.testing.assert_array_equal(result, expected, f"{NAMES[operation]} {magnitude} {negative}")


def test_blends_of_all_pairs_of_levels_differ_from_pillow_only_where_its_float_falls_short_of_a_whole_level():
    below, above = np.mgrid[:256, :256].astype(np.uint8)
    for magnitude in range(1, 10):
        expected = np.asarray(Image.blend(Image.fromarray(below), Image.fromarray(above), magnitude * 0.9 / 10 + 0.05))
        exact = 100 * below.astype(int) + (5 + 9 * magnitude) * (above.astype(int) - below)
        off = exact // 100 != expected
        assert (exact[off] % 100 == 0).all() and (exact[off] // 100 == expected[off] + 1).all()
        assert off.sum() < 20 and (magnitude == 6 or not off.any())


def test_auto_contrast_reaches_black_and_white_for_every_range():
    ranges = [(low, high) for low in range(0, 256, 5) for high in range(low + 1, 256, 7)]
    images = np.array(ranges, np.uint8)[:, None, :, None]
    results = jax.vmap(change, (0, None, None, None))(images, jnp.array(0), jnp.array(1), jnp.array(False))
    np.testing.assert_array_equal(results, np.broadcast_to(np.uint8([0, 255])[None, None, :, None], images.shape))


@pytest.mark.parametrize("shape", [(20, 33, 3), *by_hand((32, 32, 3), (28, 28, 1), (33, 23, 1))], ids=str)
def test_cut_out_is_pillows_rectangle(shape):
    height, width, _ = shape
    image = pictures(*shape)[0]
    centres = np.random.default_rng(1).uniform(size=(200, 2)).astype(np.float32)
    centres[:4] = [(0, 0), (0, 0.999), (0.999, 0), (0.999, 0.999)]
    for centre, result in zip(centres, jax.vmap(cut_out, (None, 0))(image, centres), strict=True):
        y, x = (centre * np.float32([height, width])).tolist()
        np.testing.assert_array_equal(result, cut_out_by_pillow(image, y, x, min(height, width) // 2))


@pytest.mark.parametrize("shape", [(20, 33, 3), *by_hand((32, 32, 3), (28, 28, 1))], ids=str)
def test_the_whole_is_what_pillow_makes_of_the_same_draws(shape):
    key, height, width = jax.random.key(3), *shape[:2]
    images = np.array(pictures(*shape)[:2] * 200)
    compared = 0
    everything = jax.vmap(draw)(jax.random.split(key, len(images)))
    results = strong_compiled(key, images)
    for image, result, *draws, centre in zip(images, results, *map(np.asarray, everything), strict=True):
        steps = list(zip(*draws, strict=True))
        if any(NAMES[step[0]] == "AutoContrast" or NAMES[step[0]] in BLENDS and step[1] == 6 for step in steps):
            continue  # a level off, which what follows may widen
        for step in steps:
            image = by_pillow(image, *(value.item() for value in step))
        y, x = (centre * np.float32([height, width])).tolist()
        np.testing.assert_array_equal(result, cut_out_by_pillow(image, y, x, min(height, width) // 2))
        compared += 1
    assert compared > 300


def test_the_square_always_comes_and_measures_17_pixels_inside():
    black = jnp.zeros((4000, 32, 32, 3), jnp.uint8)  # no operation changes it
    grey = np.asarray(strong_compiled(jax.random.key(0), black))
    assert set(np.unique(grey)) == {0, 127}
    grey = grey[..., 0] > 0
    heights, widths = grey.any(2).sum(1), grey.any(1).sum(1)
    np.testing.assert_array_equal(grey.sum((1, 2)), heights * widths)  # a full rectangle
    assert set(heights) == set(widths) == set(range(9, 18))
    starts = grey.any(2).argmax(1)
    np.testing.assert_array_equal(heights, np.minimum(17, 32 - starts))
    assert abs((heights == 17).mean() - 0.75) < 0.03  # a centre up to 24 of 32
    assert abs((starts == 0).mean() - 9 / 32) < 0.03  # a centre before 9


def test_draws_are_uniform_and_independent():
    n = 40_000
    draws = jax.tree.map(np.asarray, jax.vmap(draw)(jax.random.split(jax.random.key(7), n)))
    expected = np.full(14, 1 / 28)
    expected[NAMES.index("Identity")] += 1 / 2

    def assert_close(rates, expected):
        assert (np.abs(rates - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()

    first, second = draws.operation.T
    assert_close(np.bincount(first, minlength=14) / n, expected)
    pairs = np.bincount(first * 14 + second, minlength=196).reshape(14, 14) / n
    assert_close(pairs, expected[:, None] * expected)  # hence with replacement, and each skipped on its own
    magnitudes = np.bincount(draws.magnitude[:, 0] * 10 + draws.magnitude[:, 1], minlength=100).reshape(10, 10)
    assert_close(magnitudes[1:, 1:] / n, np.full((9, 9), 1 / 81))
    negatives = np.bincount(draws.negative @ [2, 1], minlength=4)
    assert_close(negatives / n, np.full(4, 1 / 4))
    centres, _, _ = np.histogram2d(*draws.centre.T, bins=4, range=[(0, 1), (0, 1)])
    assert_close(centres / n, np.full((4, 4), 1 / 16))
    fields = np.stack([first, *draws.magnitude.T, *draws.negative.T, *draws.centre.T]).astype(float)
    assert np.abs(np.corrcoef(fields) - np.eye(len(fields))).max() < 5 / np.sqrt(n)


def test_an_image_depends_on_its_own_draws_and_content_only():
    images = np.array(pictures(16, 16, 3)[:2] * 8)
    results = np.asarray(strong_compiled(jax.random.key(0), images))
    others = images.copy()
    others[:5], others[6:] = 9, 200
    np.testing.assert_array_equal(strong_compiled(jax.random.key(0), others)[5], results[5])
    np.testing.assert_array_equal(strong_compiled(jax.random.key(0), images), results)
    assert (strong_compiled(jax.random.key(1), images) != results).any((1, 2, 3)).mean() > 0.8
    alike = strong_compiled(jax.random.key(0), np.repeat(images[:1], 16, 0))
    assert len({np.asarray(image).tobytes() for image in alike}) == 16


def test_compiled_mapped_and_plain_calls_agree_and_one_trace_serves_all_draws():
    images = np.array(pictures(16, 16, 3)[:2] * 4)
    keys = jax.random.split(jax.random.key(0), 3)
    traces = []

    @jax.jit
    def compiled(key, images):
        traces.append(None)
        return strong(key, images)

    results = np.array([compiled(key, images) for key in keys])
    assert len(traces) == 1
    np.testing.assert_array_equal(strong(keys[0], jnp.asarray(images)), results[0])
    np.testing.assert_array_equal(jax.jit(jax.vmap(strong, (0, None)))(keys, images), results)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)]
)
def test_other_arrays_are_refused(images):
    with pytest.raises(InputError, match="pass uint8"):
        strong(jax.random.key(0), images)
