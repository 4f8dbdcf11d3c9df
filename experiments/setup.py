"""From a config to arrays on the device and functions that are compiled once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.environment import environment
from experiments.methods import needs
from saal_jax import data
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.data.embeddings import digest as embeddings_digest
from saal_jax.data.embeddings import load_embeddings
from saal_jax.data.imbalance import IMBALANCES
from saal_jax.engine.devices import all_devices
from saal_jax.engine.memory import machine_bytes
from saal_jax.errors import InputError
from saal_jax.keys import make_key
from saal_jax.loop import Asked, Examples, Problem, Protocol, first_labels, make_pool, seed_key
from saal_jax.models import COMPUTE_DTYPES, MODELS
from saal_jax.optimizers import OPTIMIZERS
from saal_jax.preprocessing import AUGMENTATIONS, normalize
from saal_jax.recipes import OFFERS, RECIPES
from saal_jax.tasks.classification import classification
from saal_jax.training import Ingredients, Recipe


class Setup(NamedTuple):
    """A config, made real."""

    problem: Problem
    answers: np.ndarray  # the true label of each image of the pool, which only the oracle and the first labels look at
    positions: np.ndarray  # of the pool's images among all that `names` has, which an imbalance may have left out
    names: np.ndarray
    class_names: tuple
    record: dict  # what a checkpoint tells about its model and data, beside the history

    def first(self, seed: int) -> Asked:
        """The first images that a seed labels."""
        problem = self.problem
        return first_labels(seed_key(seed), problem.protocol, problem.pool, self.answers, len(self.class_names))

    def oracle(self, indices) -> np.ndarray:
        """The true labels of these images."""
        return self.answers[indices]


def build(config, data_dir) -> Setup:
    """Loads the data and puts model, optimizer, recipe and acquisition together, for all devices there are."""
    loaded = data.load(
        config.dataset,
        split=config.split,
        test_split=config.test_split,
        data_dir=data_dir,
        image_size=config.image_size,
    )
    train, positions, embeddings, digest = _pool_of(config, loaded)
    images = train.images
    channels = images.shape[-1]
    mean = config.mean or [float(images[..., channel].mean() / 255) for channel in range(channels)]
    std = config.std or [max(float(images[..., channel].std() / 255), 1e-3) for channel in range(channels)]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise InputError(
                f"config.{key} has {len(values)} values, but the images of {config.dataset} have {channels} channels"
            )
    classes = len(loaded.class_names)
    _check_memory(config, classes, images.shape[1:])
    recipe = make_recipe(config, classes, images.shape[1:], mean, std)
    test = Examples(jnp.asarray(loaded.test.images), loaded.test.labels)
    protocol = Protocol(*(getattr(config, key) for key in Protocol._fields))
    pool = make_pool(images, train.ids, embeddings)
    problem = Problem(recipe.offers["task"], pool, test, recipe, fitted(config, recipe), protocol)
    setup = Setup(
        problem,
        train.labels,
        positions,
        loaded.train.ids,
        loaded.class_names,
        {
            "model": _model(config, classes),
            "recipe": config.recipe.model_dump(),
            "image_shape": list(images.shape[1:]),
            "mean": list(mean),
            "std": list(std),
            "data": digest,
            "pool_size": len(images),
            "class_names": list(loaded.class_names),
            "class_counts": np.bincount(train.labels, minlength=classes).tolist(),
            "environment": environment(),
        },
    )
    setup.first(config.seeds[0])  # refuses what cannot be begun
    return setup


def _check_memory(config, num_classes, image_shape):
    """Refuses a network whose weights and gradients alone are more than this machine's memory."""
    model = call(MODELS, _model(config, num_classes))
    shapes = jax.eval_shape(model.init, make_key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)).params
    size, memory = (2 * sum(4 * leaf.size for leaf in jax.tree.leaves(shapes))) / 2**30, machine_bytes() / 2**30
    if size > memory:
        raise InputError(
            f"config.model.width={config.model.width}: weights and gradients of images of "
            f"{'x'.join(map(str, image_shape))} take {size:,.0f} GiB, more than the {memory:,.0f} GiB of memory here; "
            "lower it, or image_size"
        )


def make_recipe(config, num_classes, image_shape, mean, std) -> Recipe:
    """The recipe with model and optimizer, for all devices there are. Nothing is computed yet."""
    ingredients = Ingredients(
        call(MODELS, _model(config, num_classes)),
        call(OPTIMIZERS, config.optimizer.model_dump()),
        classification(num_classes, AUGMENTATIONS[config.augmentation]),
        functools.partial(normalize, mean=mean, std=std),
        image_shape,
        mesh=all_devices(),
    )
    return call(RECIPES, config.recipe.model_dump(), ingredients)


def _model(config, num_classes):
    """The name of the model and all that its function takes."""
    return {**config.model.model_dump(), "num_classes": num_classes, "dtype": COMPUTE_DTYPES[config.precision]}


def _pool_of(config, loaded):
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


def call(registry, options, *args):
    """Calls the function `options["name"]` of the registry with the other options."""
    options = dict(options)
    return registry[options.pop("name")](*args, **options)


def fitted(config, recipe):
    """The acquisition, given what it needs of the recipe. Raises InputError where that does not offer it."""
    needed = needs(config.acquisition.name)
    missing = [name for name in needed if name not in recipe.offers]
    if missing:
        what, offered_by = OFFERS[missing[0]]
        raise InputError(
            f"acquisition {config.acquisition.name} needs {missing[0]} ({what}), which recipe {config.recipe.name} "
            f"does not offer here: use --config.{offered_by}"
        )
    return call(ACQUISITIONS, config.acquisition.model_dump(), *(recipe.offers[name] for name in needed))
