"""From a config to arrays on the device and functions that are compiled once."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

from saal_jax import data
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.cycle import Pool, Protocol, first_labels, make_pool, seed_key
from saal_jax.devices import all_devices
from saal_jax.errors import InputError
from saal_jax.models import MODELS
from saal_jax.optimizers import OPTIMIZERS
from saal_jax.preprocessing import AUGMENTATIONS, normalize
from saal_jax.training import Recipe, supervised


class Setup(NamedTuple):
    """A config, made real."""

    protocol: Protocol
    recipe: Recipe
    acquire: Callable
    pool: Pool
    test: Pool
    class_names: tuple
    record: dict  # what a checkpoint tells about its model and data, beside the history


def build(config, data_dir) -> Setup:
    """Loads the data and puts model, optimizer, recipe and acquisition together, for all devices there are."""
    loaded = data.load(config.dataset, split=config.split, data_dir=data_dir)
    images = loaded.train.images
    channels = images.shape[-1]
    mean = config.mean or [float(images[..., channel].mean() / 255) for channel in range(channels)]
    std = config.std or [max(float(images[..., channel].std() / 255), 1e-3) for channel in range(channels)]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise InputError(
                f"config.{key} has {len(values)} values, but the images of {config.dataset} have {channels} channels"
            )
    classes = len(loaded.class_names)
    model = {**config.model.model_dump(), "num_classes": classes}
    recipe = supervised(
        _call(MODELS, model),
        _call(OPTIMIZERS, config.optimizer.model_dump()),
        AUGMENTATIONS[config.augmentation],
        functools.partial(normalize, mean=mean, std=std),
        images.shape[1:],
        mesh=all_devices(),
    )
    protocol, pool = Protocol(*(getattr(config, key) for key in Protocol._fields)), make_pool(loaded.train)
    first_labels(seed_key(config.seeds[0]), protocol, pool, classes)  # refuses what cannot be begun
    return Setup(
        protocol,
        recipe,
        _call(ACQUISITIONS, config.acquisition.model_dump(), offers={"apply": recipe.apply}),
        pool,
        make_pool(loaded.test),
        loaded.class_names,
        {
            "model": model,
            "mean": list(mean),
            "std": list(std),
            "data": loaded.digest,
            "pool_size": len(images),
            "class_names": list(loaded.class_names),
        },
    )


def _call(registry, options, offers=None):
    """Calls the function `options["name"]` of the registry with the other options and what it needs of `offers`."""
    options = dict(options)
    function = registry[options.pop("name")]
    needs = [key for key in inspect.signature(function).parameters if key in (offers or {})]
    return function(**{key: offers[key] for key in needs}, **options)
