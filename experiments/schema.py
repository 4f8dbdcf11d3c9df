"""What an experiment is made of: typed keys, checked before anything runs.

A config file is a module with a docstring and a `config`. A section such as `model` is a `name` and the options of the
function of that name in the library, taken from its signature: a new method brings its options along.
"""

import ast
import difflib
import functools
import importlib
import inspect
import operator
import pkgutil
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic
from pydantic import BeforeValidator, Field, PositiveFloat, ValidationInfo

from experiments import configs
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.data.imbalance import IMBALANCES
from saal_jax.errors import InputError, one_line
from saal_jax.models import COMPUTE_DTYPES, MODELS
from saal_jax.optimizers import OPTIMIZERS
from saal_jax.preprocessing import AUGMENTATIONS
from saal_jax.recipes import RECIPES
from saal_jax.select.first_labels import FIRST_LABELS
from saal_jax.tasks import TASKS

Registry = dict[str, Callable[..., Any]]  # functions by name

SECTIONS: dict[str, Registry] = {
    "task": TASKS,
    "imbalance": IMBALANCES,
    "initial_selection": FIRST_LABELS,
    "augmentation": AUGMENTATIONS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "recipe": RECIPES,
    "acquisition": ACQUISITIONS,
}


Count = Annotated[int, Field(gt=0, lt=2**53)]  # what JSON's numbers hold
Text = Annotated[str, Field(min_length=1)]


class Section(pydantic.BaseModel):
    """Typed keys; unknown ones are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _choice(registry: Registry) -> Any:
    """The type of a section: one of the functions in `registry`, with its keyword-only arguments."""
    sections = []
    for name, function in registry.items():
        keys: dict[str, Any] = {"name": (Literal[name], name)}
        keys |= {option.name: (_worded(option.annotation), option.default) for option in options_of(function)}
        sections.append(pydantic.create_model(name, __base__=Section, **keys))
    return Annotated[functools.reduce(operator.or_, sections), Field(discriminator="name")]


def _worded(annotation: Any) -> Any:
    """The type of an option; where `true` is one of its words, that is what a command line's true means."""
    if get_origin(annotation) is Literal and "true" in get_args(annotation):
        return Annotated[annotation, BeforeValidator(lambda value: "true" if value is True else value)]
    return annotation


def options_of(function: Callable) -> list[inspect.Parameter]:
    """The keyword-only parameters of a function, each with its type and its default."""
    options = [
        option for option in inspect.signature(function).parameters.values() if option.kind is option.KEYWORD_ONLY
    ]
    for option in options:
        if option.empty in (option.annotation, option.default):
            raise TypeError(f"{function.__name__}: its option {option.name} must have a type and a default")
    return options


def _described(registry: Registry) -> str:
    """The names of a section and the keys of each, in a line."""
    keys = {name: [option.name for option in options_of(function)] for name, function in registry.items()}
    return "; ".join(f"name={name}" + (f" ({', '.join(options)})" if options else "") for name, options in keys.items())


def _several(value: Any) -> tuple:
    """One value stands for a sequence of one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _size(value: Any) -> Any:
    """One number of pixels, or a pair."""
    pair = tuple(value) if isinstance(value, list) else value
    counts = pair if isinstance(pair, tuple) and len(pair) == 2 else (pair,)
    if value is not None and any(type(count) is not int or not 0 < count < 2**53 for count in counts):
        raise ValueError("give a whole number of pixels greater than 0, or two: height,width")
    return pair


class Config(Section):
    """All keys of an experiment, with what they mean."""

    task: _choice(TASKS) = Field(  # type: ignore[valid-type]
        {"name": "classification"}, validate_default=True, description=_described(TASKS)
    )
    dataset: Text = Field(
        description="TFDS name, .npz file, folder of images, or digits (boxes, masks: docs/data.md); a slice may "
        "follow: name[:40%]"
    )
    split: Text = Field("train", description="the split, or slice of one, that is the pool")
    test_split: Text = Field("test", description="the split, or slice of one, to test on")
    source: Text | None = Field(
        None, description="labelled images of another domain, half of every batch; the pool is then the target"
    )
    source_split: Text = Field("train", description="the split of the source to train on")
    source_test_split: Text = Field("test", description="the split of the source to measure forgetting on")
    image_size: Annotated[int | tuple[int, int] | None, BeforeValidator(_size)] = Field(
        None, description="pixels to resize to, both height and width, or height,width; none = as stored"
    )
    max_resident: Count | None = Field(
        None,
        description="bytes of images above which they stay on disk; none = a quarter of free memory; changes no result",
    )
    imbalance: _choice(IMBALANCES) = Field(  # type: ignore[valid-type]
        {"name": "natural"}, validate_default=True, description=_described(IMBALANCES) + "; of the pool"
    )
    embeddings: Text | None = Field(
        None,
        description=".npy file [N, D] for methods that choose by features; rows as in saal_jax.data.load(NAME).train",
    )
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**32)], ...],
        BeforeValidator(_several),
        Field(min_length=1, description="one run each, compared pairwise"),
    ]
    initial_labels: Annotated[int, Field(ge=0, lt=2**53)] = Field(
        description="labels before the first query; 0 only beside a source"
    )
    initial_selection: _choice(FIRST_LABELS) = Field(  # type: ignore[valid-type]
        {"name": "class_balanced"}, validate_default=True, description=_described(FIRST_LABELS)
    )
    query_size: Count = Field(description="labels bought per cycle")
    cycles: Count = Field(description="queries")
    epochs: Count | None = Field(None, description="passes over the labelled images in each cycle")
    steps: Count | None = Field(
        None, validate_default=True, description="optimizer steps in each cycle, instead of epochs (set these to none)"
    )
    batch_size: Count = Field(description="of training; the last batch of an epoch may be smaller")
    pool_subset: Count | None = Field(None, description="random candidates per query; none = all")
    warm_start: bool = Field(description="carry weights and optimizer over, or restart from one initialisation")
    augmentation: _choice(AUGMENTATIONS) = Field(  # type: ignore[valid-type]
        {"name": "none"}, validate_default=True, description=_described(AUGMENTATIONS)
    )
    mean: Annotated[tuple[float, ...], BeforeValidator(_several), Field(min_length=1)] | None = Field(
        None, description="per channel, of images in 0..1; none = the pool's own"
    )
    std: Annotated[tuple[PositiveFloat, ...], BeforeValidator(_several), Field(min_length=1)] | None = Field(
        None, description="likewise"
    )
    precision: Literal[tuple(COMPUTE_DTYPES)] = Field(  # type: ignore[valid-type]
        "float32", description="of the network's convolutions, float32 or bfloat16; weights and losses are float32"
    )
    model: _choice(MODELS) = Field(description=_described(MODELS))  # type: ignore[valid-type]
    optimizer: _choice(OPTIMIZERS) = Field(description=_described(OPTIMIZERS))  # type: ignore[valid-type]
    recipe: _choice(RECIPES) = Field({"name": "supervised"}, validate_default=True, description=_described(RECIPES))  # type: ignore[valid-type]
    acquisition: _choice(ACQUISITIONS) = Field(description=_described(ACQUISITIONS))  # type: ignore[valid-type]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _names_alone(cls, values: dict[str, Any]) -> dict[str, Any]:
        return with_sections(values)

    @pydantic.field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may be named once")
        return seeds

    @pydantic.field_validator("initial_labels")
    @classmethod
    def _something_to_begin_with(cls, initial_labels: int, info: ValidationInfo) -> int:
        if not initial_labels and info.data.get("source") is None:
            raise ValueError("without a source there must be labels to begin with: let it be 1 or more")
        return initial_labels

    @pydantic.field_validator("steps")
    @classmethod
    def _instead_of_epochs(cls, steps: int | None, info: ValidationInfo) -> int | None:
        if "epochs" in info.data and (steps is None) == (info.data["epochs"] is None):
            raise ValueError(f"config.epochs is {info.data['epochs']}: let one of the two be none")
        return steps

    @pydantic.field_validator("pool_subset")
    @classmethod
    def _enough_to_choose_from(cls, pool_subset: int | None, info: ValidationInfo) -> int | None:
        if pool_subset is not None and pool_subset < info.data.get("query_size", 0):
            raise ValueError(f"config.query_size is {info.data['query_size']}: let it be at least that")
        return pool_subset

    def but(self, **changes: Any) -> "Config":
        """This config with some keys changed; sections are merged, and start afresh where their name changes."""
        values = self.model_dump()
        for key, value in changes.items():
            section, value = values.get(key), _section(key, value)
            if isinstance(section, dict) and isinstance(value, dict):
                renamed = value.get("name", section["name"]) != section["name"]
                value = value if renamed else {**section, **value}
            values[key] = value
        return validated(values)


def _section(key: str, value: Any) -> Any:
    """A name stands for a section of that name with all its defaults."""
    if key in SECTIONS and (value is None or isinstance(value, str)):
        return {"name": value or "none"}
    return value


def with_sections(values: dict[str, Any]) -> dict[str, Any]:
    """`values`, with a name alone written as a section."""
    return {key: _section(key, value) for key, value in values.items()}


def validated(values: dict[str, Any]) -> Config:
    """The config of these values, or an InputError that names the first wrong key and the nearest valid one."""
    values = with_sections(values)
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        raise InputError(_explain(error.errors()[0], values)) from None


def load(name: str) -> Config:
    """The `config` of the file of that name in experiments/configs, or of the file at that path."""
    if name.endswith(".py") or "/" in name:
        if not Path(name).is_file() or not name.endswith(".py"):
            raise InputError(f"--config={name}: there is no such file of Python code (NAME.py)")
        try:
            config = runpy.run_path(name).get("config")
        except (InputError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever is wrong with it
            raise InputError(f"--config={name}: {type(error).__name__}: {one_line(error)}") from None
        if not isinstance(config, Config):
            raise InputError(
                f"--config={name}: the file must define `config`, for example `config = base.but(cycles=5)`"
            )
        return validated(config.model_dump())  # whatever was done to it
    renamed = name.replace("_random_small", "_saal_small").replace("_random", "_saal")
    if name not in names() and renamed in names():  # an older version's
        raise InputError(f"--config={name}: write --config={renamed} --config.acquisition.name=random")
    if name not in names():
        hint = "`python -m experiments.run --help` lists them all"
        raise InputError(f"--config={name}: there is no such config{_nearest(name, names())}; {hint}")
    return importlib.import_module(f"{configs.__name__}.{name}").config


def names() -> list[str]:
    """The config files, without those that only others build on."""
    return [name for _, name, _ in pkgutil.iter_modules(configs.__path__) if not name.startswith("_")]


def summary(name: str) -> str:
    """The first line of a config file's docstring."""
    try:
        return (importlib.import_module(f"{configs.__name__}.{name}").__doc__ or "(no docstring)").splitlines()[0]
    except Exception as error:  # one broken file must not hide the others
        return f"(cannot be loaded: {error})"


def override(config: Config, assignments: list[str]) -> Config:
    """Applies `--config.section.key=value` arguments."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        if "\\udc" in ascii(assignment):  # bytes that are no text
            raise InputError(f"{assignment!a}: is not UTF-8; write it in UTF-8")
        key, equals, text = assignment.removeprefix("--config.").partition("=")
        if not equals:
            raise InputError(f"{assignment}: write --config.{key}=VALUE")
        section, dot, option = key.partition(".")
        if dot and section in Config.model_fields and section not in SECTIONS:
            raise InputError(f"{assignment}: {section} has no keys of its own; write --config.{section}=VALUE")
        if dot:
            changes.setdefault(section, {})
            changes[section] |= {option: _parsed(text)}
        elif section in SECTIONS:
            changes.setdefault(section, {})
            changes[section] |= {"name": "none" if text.lower() == "none" else text}
        else:
            changes[section] = _parsed(text)
    return config.but(**changes)


def _parsed(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):  # the last three: {[1]}, ((((...
        return text


def _explain(error: Any, values: dict[str, Any]) -> str:
    path = [str(part) for part in error["loc"]]
    section = values.get(path[0])
    if isinstance(section, dict) and len(path) > 1 and path[1] == section.get("name"):
        del path[1]  # pydantic's tag of the union
    key = ".".join(path)
    value = error["input"]
    if error["type"] == "extra_forbidden":
        return f"config.{key}: there is no such key{_nearest(path[-1], _keys(path, section))}"
    if error["type"] in ("union_tag_invalid", "literal_error"):
        context = error["ctx"]
        value = context.get("tag", value)
        valid = re.findall(r"\w+", context.get("expected_tags", context.get("expected")).replace(" or ", " "))
        name = f"config.{key}.name" if "tag" in context else f"config.{key}"
        near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
        return f"{name}={_shown(value)}: not one of {', '.join(valid)}" + (f"; did you mean {near[0]}?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    return f"config.{key}={_shown(value)}: {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    """A value for an error line, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "(a very large number)"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(path: list[str], section: Any) -> list[str]:
    if len(path) == 1:
        return list(Config.model_fields)
    return ["name", *(option.name for option in options_of(SECTIONS[path[0]][section["name"]]))]


def _nearest(word: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f" (there are {', '.join(valid)})" if len(valid) < 20 else ""
