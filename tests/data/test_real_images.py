"""The published figures of real CIFAR-10 and Fashion-MNIST, where they are at hand."""

import numpy as np
import pytest

from saal_jax.data import load


def test_a_tenth_of_cifar10(real, tmp_path):
    data = load("cifar10[:10%]", data_dir=real, cache_dir=str(tmp_path))
    assert data.train.images.shape == (5000, 32, 32, 3) and data.test.images.shape == (10000, 32, 32, 3)
    assert data.class_names == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert np.bincount(data.train.labels).min() > 400  # a slice of shuffled records mixes the classes
    # 5,000 of 50,000 images: the published means to two digits
    assert np.allclose(data.train.images.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=0.01)
    assert len(set(data.train.ids) | set(data.test.ids)) == 15000


@pytest.mark.slow  # decodes 60,000 images
def test_all_of_cifar10(real, tmp_path):
    data = load("cifar10", data_dir=real, cache_dir=str(tmp_path))
    assert data.train.images.shape == (50000, 32, 32, 3)
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.round(data.train.images.mean((0, 1, 2)) / 255, 4).tolist() == [0.4914, 0.4822, 0.4465]
    assert len(set(data.train.ids) | set(data.test.ids)) == 60000


def test_all_of_fashion_mnist(real, tmp_path):
    data = load("fashion_mnist", data_dir=real, cache_dir=str(tmp_path))
    assert data.train.images.shape == (60000, 28, 28, 1) and data.test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert round(data.train.images.mean() / 255, 5) == 0.28604 and round(data.train.images.std() / 255, 5) == 0.35302
    assert data.train.ids[[0, -1]].tolist() == ["train_00000", "train_59999"]
    assert data.class_names[0] == "T-shirt/top"
    again = load("fashion_mnist", data_dir=real, cache_dir=str(tmp_path))
    assert again.digest == data.digest and np.array_equal(again.train.images, data.train.images)
