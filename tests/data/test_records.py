"""Records: the images that `load` gives, read where they lie."""

from functools import partial
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from saal_jax import InputError, score_pool
from saal_jax.acquisitions.entropy import entropy
from saal_jax.data import load
from saal_jax.data.records import Records
from saal_jax.loop import Examples, Problem, Protocol, first_labels, make_pool, seed_key, simulate
from saal_jax.models import small_cnn
from saal_jax.optimizers import adam
from saal_jax.preprocessing import normalize
from saal_jax.recipes.supervised import supervised
from saal_jax.select.first_labels import class_balanced
from saal_jax.tasks.classification import classification
from saal_jax.training import Ingredients

from . import custom

FEATURES = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(num_classes=2)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("records")
    examples = [{"image": custom.encoded(custom.flat(i)), "label": i % 2} for i in range(50)]
    custom.prepare(data_dir, "stored", FEATURES, {"train": examples[:40], "test": examples[40:]}, shards=5)
    return str(data_dir)


def test_any_positions_in_any_order_across_shards(prepared, tmp_path):
    records = Records("stored", split="train[5:37]", data_dir=prepared)
    images = load("stored[5:37]", data_dir=prepared, cache_dir=str(tmp_path)).train.images
    assert records.shape == images.shape == (32, 4, 4, 3)
    assert records.dtype == images.dtype
    positions = np.array([31, 0, 7, 7, 20])
    np.testing.assert_array_equal(records[positions], images[positions])
    np.testing.assert_array_equal(records[images[:, 0, 0, 0] % 2 == 0], images[images[:, 0, 0, 0] % 2 == 0])
    np.testing.assert_array_equal(records[-3:], images[-3:])
    brightness = lambda scale, chunk: scale * chunk.sum((1, 2, 3)).astype("float32")  # noqa: E731
    np.testing.assert_array_equal(
        score_pool(brightness, 2.0, records, chunk_size=5), score_pool(brightness, 2.0, images, chunk_size=5)
    )


def test_a_loop_on_records_is_that_on_their_images(prepared, tmp_path):
    images, labels, ids = load("stored", data_dir=prepared, cache_dir=str(tmp_path)).train
    task, prepare = classification(2), partial(normalize, mean=(0.5,) * 3, std=(0.3,) * 3)
    recipe = supervised(Ingredients(small_cnn(2, width=2), adam(), task, prepare, (4, 4, 3)))
    protocol, select = (
        Protocol(6, 4, 2, 2, batch_size=4, pool_subset=None, warm_start=False),
        entropy(recipe.apply, task),
    )

    def cycles(stored):
        pool = make_pool(stored, ids)
        problem = Problem(task, pool, Examples(stored, labels), recipe, select, protocol)
        first = first_labels(seed_key(0), class_balanced, 6, pool, labels, 2)
        for cycle in simulate(seed_key(0), problem, first, lambda rows: labels[rows]):
            yield jax.tree.map(np.array, (cycle.state, cycle.asked, cycle.metrics))

    chex.assert_trees_all_equal(list(cycles(Records("stored", data_dir=prepared))), list(cycles(images)))


def test_resized_as_load_resizes(prepared, tmp_path):
    records = Records("stored", data_dir=prepared, image_size=3)
    images = load("stored", data_dir=prepared, cache_dir=str(tmp_path), image_size=3).train.images
    assert records.shape == (40, 3, 3, 3)
    np.testing.assert_array_equal(records[:], images)


def test_bad_input(prepared):
    for nothing in ([], 3, [[1]]):
        with pytest.raises(InputError, match="ask for one position or more"):
            Records("stored", data_dir=prepared)[np.array(nothing, int)]
    with pytest.raises(IndexError):
        Records("stored", data_dir=prepared)[[40]]
    with pytest.raises(InputError, match="the splits that exist are train"):
        Records("stored", split="nothing", data_dir=prepared)
    records = Records("stored", data_dir=prepared)
    for file in (folder := Path(prepared) / "stored" / "1.0.0").glob("*train*"):
        file.write_bytes(bytes(len(file.read_bytes())))
    with pytest.raises(InputError, match="stored, train: cannot read its records"):
        records[np.arange(40)]
    next(folder.glob("*train*")).unlink()
    with pytest.raises(InputError, match="is missing"):
        Records("stored", data_dir=prepared)
