"""From a config to arrays on the device and functions that are compiled once."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.environment import environment
from experiments.processes import on_first
from experiments.schema import Config
from saal_jax import data
from saal_jax.data.embeddings import digest as embeddings_digest
from saal_jax.data.embeddings import load_embeddings
from saal_jax.data.imbalance import IMBALANCES
from saal_jax.data.on_disk import blocks
from saal_jax.engine.devices import all_devices, on_device
from saal_jax.engine.memory import free_bytes, machine_bytes
from saal_jax.errors import InputError
from saal_jax.keys import DRAWS, make_key
from saal_jax.labels import parts_of
from saal_jax.loop import Asked, Examples, Problem, Protocol, first_labels, make_pool, seed_key
from saal_jax.models import COMPUTE_DTYPES
from saal_jax.pool import Pool
from saal_jax.preprocessing import mean_and_std
from saal_jax.select.first_labels import FIRST_LABELS
from saal_jax.source import Source, make_source
from saal_jax.spec import bound, call, make_acquisition, make_model, make_recipe
from saal_jax.tasks import Task
from saal_jax.training import Recipe
from saal_jax.typing import Images, PyTree

# What reads the images and labels of a task, where a label is not the one class of an image: that `data.load` reads.
LOADERS: dict[str, Callable[..., data.Data]] = {"detection": data.load_boxes, "segmentation": data.load_masks}


class Setup(NamedTuple):
    """A config, made real."""

    problem: Problem
    answers: PyTree  # the true label of each image of the pool, which only the oracle and the first labels look at
    positions: np.ndarray  # of the pool's images in the data set, of which an imbalance may have left some out
    class_names: tuple[str, ...]
    select_first: Callable  # one of FIRST_LABELS
    record: dict[str, Any]  # what a checkpoint says of its model and data, beside the history

    def first(self, seed: int) -> Asked:
        """The first candidates that a seed labels."""
        pool, task, k = self.problem.pool, self.problem.task, self.problem.protocol.initial_labels
        everything = np.arange(len(pool.ids) * task.regions)
        classes = task.strata(self.oracle(everything)) if task.strata else np.zeros_like(everything)
        key, num_classes = seed_key(seed), len(self.class_names)
        return first_labels(key, self.select_first, k, pool, classes, num_classes, task.regions)

    def oracle(self, indices: np.ndarray) -> PyTree:
        """The true labels of these candidates, and no other part of the answers."""
        return parts_of(self.answers, indices, self.problem.task)


def build(config: Config, data_dir: str | Path | None) -> Setup:
    """Loads the data and puts model, optimizer, recipe and acquisition together, for all devices there are."""
    loaded = _load(config, config.dataset, config.split, config.test_split, data_dir)
    _check_classes(config)
    train, positions, embeddings, digest = _pool_of(config, loaded)
    images = train.images
    channels = images.shape[-1]
    mean, std = _normalization(config, images)
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise InputError(
                f"config.{key} has {len(values)} values, but the images of {config.dataset} have {channels} channels"
            )
    classes = len(loaded.class_names)
    _check_memory(config, classes, images.shape[1:])
    recipe = recipe_of(config, classes, images.shape[1:], mean, std)
    task = recipe.offers["task"]
    answers, test_labels = (_prepared(task, split) for split in (train, loaded.test))
    test = Examples(on_device(loaded.test.images), test_labels)
    protocol = Protocol(*(getattr(config, key) for key in Protocol._fields))
    pool = make_pool(images, train.ids, embeddings)
    acquire = make_acquisition(config.acquisition.model_dump(), recipe.offers, config.recipe.name)
    source, digest = _source(config, loaded, task, pool, digest, data_dir)
    problem = Problem(task, pool, test, recipe, acquire, protocol, source)
    setup = Setup(
        problem,
        answers,
        positions,
        loaded.class_names,
        bound(FIRST_LABELS, config.initial_selection.model_dump()),
        {
            "task": config.task.model_dump(),
            "model": {**_model(config), "num_classes": classes},
            "recipe": config.recipe.model_dump(),
            "image_shape": list(images.shape[1:]),
            "mean": list(mean),
            "std": list(std),
            "data": digest,
            "pool_size": len(train.ids) * task.regions,
            "class_names": list(loaded.class_names),
            "class_counts": np.bincount(task.strata(answers), minlength=classes).tolist() if task.strata else [],
            "environment": environment(),
            "draws": DRAWS,
        },
    )
    setup.first(config.seeds[0])  # refuses what cannot be begun
    return setup


def _load(config: Config, name: str, split: str, test_split: str, data_dir: str | Path | None) -> data.Data:
    """The data set of that name, as the config's task reads it."""
    try:
        return LOADERS.get(config.task.name, data.load)(
            name,
            split=split,
            test_split=test_split,
            data_dir=str(data_dir) if data_dir else None,
            image_size=config.image_size,
            max_resident=config.max_resident or on_first(free_bytes) // 4,
        )
    except InputError as error:
        if config.task.name not in LOADERS:
            raise
        raise InputError(f"{error} (read for config.task.name={config.task.name})") from None


def _source(
    config: Config, target: data.Data, task: Task, pool: Pool, digest: str, data_dir: str | Path | None
) -> tuple[Source | None, str]:
    """The labelled examples of another domain, if the config names some, and the fingerprint of all that was read."""
    if config.source is None:
        return None, digest
    loaded = _load(config, config.source, config.source_split, config.source_test_split, data_dir)
    for what, own, other in (
        ("classes", target.class_names, loaded.class_names),
        ("images", target.train.images.shape[1:], loaded.train.images.shape[1:]),
    ):
        if own != other:
            raise InputError(f"config.source={config.source}: its {what} are {other}, those of {config.dataset} {own}")
    known = _fingerprints(loaded.train.images)
    for whose, images in (("pool", pool.images), ("test images", target.test.images), ("own test", loaded.test.images)):
        if not known.isdisjoint(_fingerprints(images)):
            raise InputError(
                f"config.source_split={config.source_split}: an image of the source is also one of the {whose}; choose "
                "splits that share none"
            )
    labels, test_labels = (_prepared(task, split) for split in (loaded.train, loaded.test))
    test = Examples(on_device(loaded.test.images), test_labels)
    made = make_source(pool, loaded.train.images, loaded.train.ids, labels, test)
    return made, f"{digest} {loaded.digest}"


def _fingerprints(images: Images) -> set[bytes]:
    """Of each image, whatever it is called."""
    return {hashlib.sha256(image.tobytes()).digest() for block in blocks(images) for image in block}


def _check_classes(config: Config) -> None:
    """Refuses what looks at the one class of an image where images have none."""
    for section, without in (("initial_selection", "random"), ("imbalance", "natural")):
        name = getattr(config, section).name
        if config.task.name in LOADERS and name != without:
            raise InputError(
                f"config.{section}.name={name} looks at the class of an image, but in {config.task.name} an image has "
                f"none of its own: use config.{section}.name={without}"
            )


def _prepared(task: Task, split: data.Split) -> PyTree:
    """The labels of a split as the task keeps them."""
    return task.prepare(split.labels, split.ids) if task.prepare else split.labels


def _normalization(config: Config, images: Images) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation by channel: those of the config, or else of the images."""
    if config.mean and config.std:
        return config.mean, config.std
    mean, std = mean_and_std(images)
    return config.mean or mean, config.std or [max(value, 1e-3) for value in std]


def _check_memory(config: Config, num_classes: int, image_shape: tuple[int, ...]) -> None:
    """Refuses a network whose weights and gradients alone are more than this machine's memory."""
    model = make_model(_model(config), num_classes)
    shapes = jax.eval_shape(model.init, make_key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)).params
    size, memory = (2 * sum(4 * leaf.size for leaf in jax.tree.leaves(shapes))) / 2**30, machine_bytes() / 2**30
    if size > memory:
        raise InputError(
            f"config.model.width={config.model.width}: weights and gradients of images of "
            f"{'x'.join(map(str, image_shape))} take {size:,.0f} GiB, more than the {memory:,.0f} GiB of memory here; "
            "lower it, or config.image_size"
        )


def recipe_of(
    config: Config, num_classes: int, image_shape: tuple[int, ...], mean: Sequence[float], std: Sequence[float]
) -> Recipe:
    """The config's recipe, for all devices there are. Nothing is computed yet."""
    options = {key: getattr(config, key).model_dump() for key in ("task", "optimizer", "augmentation")}
    options["mesh"] = all_devices()
    return make_recipe(config.recipe.model_dump(), _model(config), num_classes, image_shape, mean, std, **options)


def _model(config: Config) -> dict[str, Any]:
    """The name and the options of the model."""
    return {**config.model.model_dump(), "dtype": COMPUTE_DTYPES[config.precision]}


def _pool_of(config: Config, loaded: data.Data) -> tuple[data.Split, np.ndarray, np.ndarray | None, str]:
    """The images of the pool, their positions in the data set, the user's embeddings of them if any, and a fingerprint
    of all that was read.
    """
    train = call(IMBALANCES, config.imbalance.model_dump())(loaded.train, len(loaded.class_names))
    positions = np.flatnonzero(np.isin(loaded.train.ids, train.ids))
    if config.embeddings is None:
        return train, positions, None, loaded.digest
    embeddings = load_embeddings(config.embeddings, len(loaded.train.ids))
    digest = f"{loaded.digest} {embeddings_digest(embeddings)}"
    return train, positions, embeddings[positions], digest
