"""Imbalanced variants: exact counts, and which images they keep."""

import zlib

import numpy as np
import pytest

from saal_jax.data import Split, load
from saal_jax.data.imbalance import IMBALANCES, alternating, long_tailed, natural
from saal_jax.errors import InputError


def made(*sizes):
    """A split with so many images of each class, mixed; each image holds the number in its name."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    numbers = np.arange(len(labels))
    return Split(numbers.reshape(-1, 1, 1, 1), labels, np.array([f"train_{i:05d}" for i in numbers]))


def counts(transform, *sizes):
    return np.bincount(transform(made(*sizes), len(sizes)).labels, minlength=len(sizes)).tolist()


def test_counts_of_cifar_are_the_published_ones():
    ten = counts(long_tailed(), *[5000] * 10)
    assert ten == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50] and sum(ten) == 12406
    hundred = counts(long_tailed(largest=500), *[500] * 100)
    assert hundred[:3] == [500, 477, 455] and hundred[-1] == 5 and sum(hundred) == 10847
    # ST-CoNAL's, with CIFAR-10's largest for CIFAR-100 too: the first half of the classes stays whole
    clipped = counts(long_tailed(), *[500] * 100)
    assert clipped[:50] == [500] * 50 and clipped[50] == int(5000 * 0.01 ** (50 / 99)) and clipped[-1] == 50
    assert counts(alternating(), *[5000] * 10) == [50, 5000] * 5
    assert counts(alternating(few=5, many=500), *[500] * 100) == [5, 500] * 50


def test_long_tailed_by_hand():
    assert counts(long_tailed(largest=8, ratio=0.25), 9, 9, 9) == [8, 4, 2]
    assert counts(long_tailed(largest=8, ratio=0.25), 9, 3, 1) == [8, 3, 1]  # clipped
    assert counts(long_tailed(largest=4, ratio=0.01), 9, 9, 9) == [4, 1, 1]  # of 0.4 and 0.04, one each
    assert counts(long_tailed(largest=4, ratio=1.0), 9, 9, 9) == [4, 4, 4]
    assert counts(long_tailed(largest=4), 9) == [4]
    assert counts(long_tailed(largest=4, ratio=1.0), 9, 0, 9) == [4, 0, 4]  # what is not there cannot be kept


def test_images_stay_with_their_labels_and_names_in_their_order():
    split = made(30, 20, 40)
    kept = long_tailed(largest=12, ratio=0.25)(split, 3)
    rows = kept.images[:, 0, 0, 0]
    assert np.all(np.diff(rows) > 0)
    for whole, part in zip(split, kept, strict=True):
        np.testing.assert_array_equal(part, whole[rows])


def test_which_are_kept_does_not_depend_on_the_order():
    split = made(30, 20, 40)
    order = np.random.default_rng(1).permutation(90)
    shuffled = Split(*(array[order] for array in split))
    for transform in (alternating(few=7, many=11), long_tailed(largest=12)):
        kept, again = transform(split, 3), transform(shuffled, 3)
        assert set(kept.ids) == set(again.ids)
        assert again.ids.tolist() == [name for name in shuffled.ids if name in set(kept.ids)]


def test_names_of_one_number_do_not_depend_on_the_order_either():
    names = ["buckeroo", "plumless"]
    assert zlib.crc32(names[0].encode()) == zlib.crc32(names[1].encode())
    for ids in (names, names[::-1]):
        split = Split(np.zeros((2, 1, 1, 1), np.uint8), np.zeros(2, np.int32), np.array(ids))
        assert alternating(few=1)(split, 1).ids.tolist() == alternating(few=1)(split, 1).ids.tolist() == [names[1]]


def test_images_are_drawn_by_name():
    split = made(60, 60)
    three, four = (alternating(few=few, many=30)(split, 2).ids for few in (3, 4))
    assert set(three) < set(four)  # a larger count adds images
    places = np.flatnonzero(np.isin(split.ids[split.labels == 1], three))
    assert 20 < places.mean() < 40 and places[-1] > 45 and places[0] < 15  # of 0..59, spread
    without = np.isin(split.ids, four) | (np.arange(120) % 2 == 0)
    assert set(alternating(few=4, many=30)(Split(*(a[without] for a in split)), 2).ids) == set(four)


def test_a_class_that_has_too_few_is_named():
    with pytest.raises(InputError, match="alternating: many is 30, but the class of label 3 has only 29 images"):
        counts(alternating(few=5, many=30), 9, 30, 9, 29)
    with pytest.raises(InputError, match="few is 5, but the class of label 2 has only 4 images; lower few"):
        counts(alternating(few=5, many=30), 9, 30, 4, 30)


def test_natural_is_everything():
    split = made(3, 2)
    assert natural()(split, 2) is split
    assert list(IMBALANCES) == ["natural", "alternating", "long_tailed"]


@pytest.mark.slow
def test_real_cifar10(real, tmp_path):
    train = load("cifar10", data_dir=real, cache_dir=str(tmp_path)).train
    kept = alternating()(train, 10)
    assert np.bincount(kept.labels).tolist() == [50, 5000] * 5
    assert long_tailed(ratio=1.0)(train, 10).ids.tolist() == train.ids.tolist()
