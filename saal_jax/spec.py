"""From names and options, as a config or a checkpoint has them, to functions.

An option is a keyword-only argument of the function of that name; what an acquisition needs of a recipe are its others.
"""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from saal_jax import checkpoint
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.errors import InputError
from saal_jax.keys import make_key
from saal_jax.models import MODELS, Model
from saal_jax.moves import MOVES
from saal_jax.optimizers import OPTIMIZERS
from saal_jax.paths import user_path
from saal_jax.pool import Acquired
from saal_jax.preprocessing import AUGMENTATIONS, normalize
from saal_jax.recipes import OFFERS, RECIPES
from saal_jax.tasks import TASKS, Task
from saal_jax.training import Ingredients, Recipe
from saal_jax.typing import ApplyFn, PyTree


def call(registry: dict, options: dict, *args: Any, **more: Any) -> Any:
    """Calls the function `options["name"]` of the registry with the other options."""
    options = dict(options)
    return registry[options.pop("name")](*args, **options, **more)


def bound(registry: dict, options: dict) -> Callable:
    """The function `options["name"]` of the registry, with the other options."""
    options = dict(options)
    return functools.partial(registry[options.pop("name")], **options)


def make_model(model: dict, num_classes: int) -> Model:
    """The network of these options."""
    return call(MODELS, {**model, "num_classes": num_classes})


def make_recipe(
    recipe: dict,
    model: dict,
    num_classes: int,
    image_shape: tuple,
    mean: Any,
    std: Any,
    *,
    task: dict | None = None,
    optimizer: dict | None = None,
    augmentation: dict | None = None,
    mesh: Mesh | None = None,
) -> Recipe:
    """The recipe with task, model and optimizer, for the devices of `mesh`; the task is classification where none is
    given. Nothing is computed yet. Raises InputError where the outputs of the model are not what the task needs.
    """
    augmentation, task = augmentation or {"name": "none"}, task or {"name": "classification"}
    moves = bound(MOVES, augmentation) if augmentation["name"] in MOVES else None
    made = call(TASKS, task, num_classes, bound(AUGMENTATIONS, augmentation), moves, tuple(image_shape))
    network = make_model(model, num_classes)
    _check_outputs(network, made, image_shape, f"model {model['name']} does not fit task {task['name']}")
    ingredients = Ingredients(
        network,
        call(OPTIMIZERS, optimizer or {"name": "sgd"}),
        made,
        functools.partial(normalize, mean=mean, std=std),
        tuple(image_shape),
        mesh,
    )
    return call(RECIPES, recipe, ingredients)


def _check_outputs(model: Model, task: Task, image_shape: tuple, message: str) -> None:
    """Refuses a model whose outputs are not those of the task."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    weights = jax.eval_shape(model.init, make_key(0), images)
    try:
        vars(task.loss_fn)["check_outputs"](jax.eval_shape(model.apply, weights, images), 1)
    except InputError as error:
        raise InputError(f"{message}: {error}") from None


def needs(acquisition: str) -> list[str]:
    """What an acquisition needs of a recipe, by name."""
    parameters = inspect.signature(ACQUISITIONS[acquisition]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]


def make_acquisition(acquisition: dict, offers: dict, recipe_name: str) -> Callable[..., Acquired]:
    """The acquisition, with what it needs of what a recipe offers. Raises InputError where that is missing, or where
    it looks at whole images but the task has regions that are bought apart.
    """
    name = acquisition["name"]
    needed = needs(name)
    missing = [name for name in needed if name not in offers]
    if missing:
        what, offered_by = OFFERS[missing[0]]
        raise InputError(
            f"acquisition {name} needs {missing[0]} ({what}), which recipe {recipe_name} does not offer "
            f"here: use {offered_by}"
        )
    acquire, regions = call(ACQUISITIONS, acquisition, *(offers[name] for name in needed)), offers["task"].regions
    if regions == 1:
        return acquire
    of_pixels = {"pixels", "teacher", "students", "predicted_loss"} if offers["task"].classes_of == "pixel" else set()
    whole = [need for need in needed if need not in {"apply", "task"} | of_pixels]
    if whole:
        raise InputError(
            f"acquisition {name} needs {whole[0]}, which is of whole images, but {regions} regions of each are bought "
            "apart: use one that scores regions, or the acquisition random"
        )
    return _by_name(acquire, name)


def _by_name(acquire, name):
    """`acquire`, whose errors say its name: whether it scores regions, its first sweep shows."""

    @functools.wraps(acquire)
    def named(query, **more):
        try:
            return acquire(query, **more)
        except InputError as error:
            raise InputError(f"acquisition {name}: {error}") from None

    return named


def load_model(workdir: str | os.PathLike, seed: int | None = None) -> tuple[ApplyFn, PyTree]:
    """Loads the last trained model of a run, to score or classify images of one's own.

    Args:
      workdir: the directory of a run of `experiments.run`.
      seed: which of its seeds; `None` is the lowest that has a checkpoint.

    Returns:
      `(apply_fn, params)`, with `apply_fn(params, images[B, H, W, C]) -> outputs` in evaluation mode (of classification
      logits `[B, num_classes]`), on images in the range 0..255 as they are stored (it normalises), and `params` the
      trained weights alone: both go straight into `max_perturbed_loss`.

    Raises:
      InputError: there is no readable checkpoint of that seed.

    Example (after `make run`):
      apply_fn, params = saal_jax.load_model("results/digits_saal")
      scores = saal_jax.max_perturbed_loss(apply_fn, params, images)
    """
    root = user_path(workdir) / "checkpoints"
    seeds = checkpoint.saved_seeds(root) if seed is None else [seed]
    newest = next(filter(None, (checkpoint.load_newest(root / f"seed_{seed}") for seed in seeds)), None)
    if newest is None:
        which = "" if seed is None else f" of seed {seed}"
        raise InputError(f"no readable checkpoint{which} in {root}: give the workdir of a run that finished a cycle")
    _, tree, record = newest
    model = dict(record["model"])
    num_classes = model.pop("num_classes")
    shape, task = record["image_shape"], record.get("task")  # a record of an older version has no task
    recipe = make_recipe(record["recipe"], model, num_classes, shape, record["mean"], record["std"], task=task)
    target = jax.eval_shape(recipe.init, make_key(0)).weights
    weights = jax.tree.map(jax.numpy.asarray, checkpoint.into(target, tree["train"]["weights"]))

    def apply_fn(params, images):
        return recipe.apply(weights._replace(params=params), images)

    return apply_fn, weights.params
