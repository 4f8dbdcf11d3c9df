"""Configs: typed keys, one clear line for what is wrong, and every file loads."""

from pathlib import Path

import pytest

from experiments import schema
from saal_jax import InputError
from saal_jax.acquisitions import ACQUISITIONS

BASE = schema.load("digits_saal")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("acquisition.rh=0.1", "config.acquisition.rh: there is no such key; did you mean rho?"),
        ("cycle=3", "config.cycle: there is no such key; did you mean cycles?"),
        ("model.foo.bar=1", "config.model.foo.bar: there is no such key (there are name, width, dropout)"),
        ("acquisition.rho=abc", "config.acquisition.rho='abc': input should be a valid number"),
        ("image_size=0", "config.image_size=0: give a whole number of pixels greater than 0, or two: height,width"),
        ("image_size=60,80,3", "config.image_size=(60, 80, 3): give a whole number of pixels"),
        ("acquisition.rho=-1", "config.acquisition.rho=-1: input should be greater than or equal to 0"),
        ("acquisition.mode=max_diversty", "did you mean max_diversity?"),
        (
            "acquisition.name=sal",
            f"config.acquisition.name='sal': not one of {', '.join(ACQUISITIONS)}; did you mean saal?",
        ),
        (
            "model.name=resnet",
            "config.model.name='resnet': not one of resnet18, small_cnn, center_net, unet; did you mean resnet18?",
        ),
        ("acquisition=rando", "config.acquisition.name='rando': not one of"),
        ("initial_selection=entropy", "config.initial_selection.name='entropy': not one of class_balanced, random"),
        ("augmentation.padding=-1", "config.augmentation.padding: there is no such key"),
        ("cycles=0", "config.cycles=0: input should be greater than 0"),
        ("query_size=-1", "config.query_size=-1: input should be greater than 0"),
        ("cycles=2.5", "config.cycles=2.5: input should be a valid integer"),
        ("cycles", "write --config.cycles=VALUE"),
        ("warm_start=maybe", "config.warm_start='maybe': input should be a valid boolean"),
        ("optimizer.learning_rate=true", "config.optimizer.learning_rate=True: input should be a valid number"),
        ("model.width=0", "config.model.width=0: input should be greater than or equal to 1"),
        ("seeds=1,2,2", "config.seeds=(1, 2, 2): each seed may be named once"),
        ("seeds=[]", "config.seeds=[]"),
        ("pool_subset=3", "config.pool_subset=3: config.query_size is 10: let it be at least that"),
        ("augmentation=flip", "config.augmentation.name='flip': not one of none, crop_and_flip"),
        ("seeds=4294967296", "config.seeds.0=4294967296: input should be less than 4294967296"),
        ("seeds.bar=1", "seeds has no keys of its own; write --config.seeds=VALUE"),
        ("acquisition.rho=1e999", "config.acquisition.rho=inf: input should be a finite number"),
        ("dataset=", "config.dataset='': string should have at least 1 character"),
        ("dataset=5", "config.dataset=5: input should be a valid string"),
        ("steps=9", "config.steps=9: config.epochs is 50: let one of the two be none"),
        ("epochs=none", "config.steps=None: config.epochs is None: let one of the two be none"),
        ("split=", "config.split='': string should have at least 1 character"),
        ("mean=()", "config.mean=(): value should have at least 1 item"),
        ("std=[]", "config.std=[]: value should have at least 1 item"),
        ("seeds={[1]}", "config.seeds.0='{[1]}': input should be a valid integer"),
        ("seeds=" + "(" * 3000, "((...: input should be a valid integer"),
        ("seeds=" + "[" * 150 + "]" * 150, "[[...: input should be a valid integer"),
        ("cycles=0x" + "f" * 10_000, "config.cycles=(a very large number): input should be less than 9007199254740992"),
        ("model.width=100000000000", "config.model.width=100000000000: input should be less than or equal to 4096"),
        ("\udce9=3", "'--config.\\udce9=3': is not UTF-8"),
        ("dataset=\udce9", "is not UTF-8"),
        ("dataset='\\ud800'", "config.dataset='\\ud800': input should be a valid string"),
        ("=3", "config.: there is no such key"),
        ("model.=3", "config.model.: there is no such key"),
    ],
)
def test_a_wrong_assignment_is_one_line_that_names_the_key(assignment, message):
    with pytest.raises(InputError) as error:
        schema.override(BASE, [f"--config.{assignment}"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_values_are_typed():
    config = schema.override(
        BASE,
        [
            "--config.seeds=7",
            "--config.pool_subset=None",
            "--config.augmentation=None",
            "--config.warm_start=true",
            "--config.acquisition.rho=1",
            "--config.acquisition.adaptive=false",
            "--config.mean=.5,.25,1",
            "--config.dataset=cifar10[:40%]",
            "--config.optimizer.learning_rate=1e-2",
        ],
    )
    assert (
        config.seeds == (7,)
        and config.pool_subset is None
        and config.augmentation.name == "none"
        and config.warm_start is True
    )
    assert config.acquisition.rho == 1.0 and config.acquisition.adaptive is False
    assert config.mean == (0.5, 0.25, 1.0) and config.dataset == "cifar10[:40%]"
    assert config.optimizer.learning_rate == 0.01


@pytest.mark.parametrize(
    "assignments",
    [
        "recipe.name=loss_prediction weight=0 joint=0",
        "recipe.name=loss_prediction joint=1",
        "recipe.name=semi_supervised_loss_prediction left_out=0 module_epochs=0 confidence=0",
        "recipe.name=semi_supervised_loss_prediction confidence=1",
        "recipe.name=snapshots span=1",
        "optimizer.name=sam rho=0 momentum=0 weight_decay=0",
        "acquisition.name=saal rho=0 screening=1",
        "augmentation.name=crop_and_flip padding=0",
    ],
)
def test_what_switches_a_part_off_or_takes_all_of_it_is_allowed(assignments):
    name, *options = assignments.split()
    section = name.split(".")[0]
    config = schema.override(BASE, [f"--config.{name}", *(f"--config.{section}.{option}" for option in options)])
    values = getattr(config, section).model_dump()
    assert all(values[key] == float(value) for key, value in (option.split("=") for option in options))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("recipe.name=ensemble", "members=1"),
        ("recipe.name=loss_prediction", "margin=0"),
        ("recipe.name=loss_prediction", "joint=1.1"),
        ("recipe.name=semi_supervised_loss_prediction", "module_rate=0"),
        ("recipe.name=semi_supervised_loss_prediction", "module_learning_rate=0"),
        ("recipe.name=semi_supervised_loss_prediction", "unlabelled_batch=1"),
        ("recipe.name=semi_supervised_loss_prediction", "confidence=1.1"),
        ("recipe.name=snapshots", "count=1"),
        ("recipe.name=snapshots", "span=0"),
        ("optimizer.name=sgd", "momentum=1"),
        ("optimizer.name=adam", "learning_rate=0"),
        ("acquisition.name=saal", "screening=0"),
    ],
)
def test_what_cannot_work_is_refused(name, option):
    section, key = name.split(".")[0], option.split("=")[0]
    with pytest.raises(InputError, match=f"^config.{section}.{key}=.*: input should be (greater|less) than"):
        schema.override(BASE, [f"--config.{name}", f"--config.{section}.{option}"])


def test_a_new_name_starts_its_section_afresh():
    config = schema.override(BASE, ["--config.acquisition.name=random", "--config.optimizer.name=sam"])
    assert config.acquisition.model_dump() == {"name": "random"}
    assert config.optimizer.rho == 0.05
    assert schema.override(BASE, ["--config.model.width=3"]).model.name == "small_cnn"


def test_a_name_alone_stands_for_its_section():
    config = schema.override(
        BASE, ["--config.acquisition=random", "--config.augmentation=crop_and_flip", "--config.augmentation.padding=2"]
    )
    assert config.acquisition.model_dump() == {"name": "random"}
    assert config.augmentation.model_dump() == {"name": "crop_and_flip", "padding": 2, "flip": True}
    older = BASE.model_dump() | {"augmentation": None, "initial_selection": "random"}  # as they were recorded
    assert schema.validated(older) == BASE.but(initial_selection={"name": "random"})
    assert schema.validated(older | {"augmentation": "crop_and_flip"}).augmentation.padding == 4


def test_a_size_is_one_number_or_two():
    config = schema.load("digits_saal")
    for text, size in (("12", 12), ("60,80", (60, 80)), ("(60,80)", (60, 80)), ("[60,80]", (60, 80)), ("none", None)):
        changed = schema.override(config, [f"--config.image_size={text}"])
        assert changed.image_size == size and schema.validated(changed.model_dump(mode="json")) == changed


@pytest.mark.parametrize("name", schema.names())
def test_every_config_says_how_it_is_run_and_what_it_should_give(name):
    config, text = schema.load(name), schema.importlib.import_module(f"experiments.configs.{name}").__doc__
    assert f"python -m experiments.run --config={name}\n" in text
    assert all(f"\n{part}: " in text for part in ("Protocol", "Reference", "Deviations"))
    assert schema.summary(name) == text.splitlines()[0]
    assert config.acquisition.name.replace("_", "") in name.replace("_", "")


def test_the_published_protocol():
    config = schema.load("cifar10_saal")
    assert (config.initial_labels, config.query_size, config.cycles, config.pool_subset) == (20, 10, 100, 2000)
    assert (config.batch_size, config.epochs, config.warm_start, config.seeds) == (10, 50, True, (123, 456, 789))
    assert config.model.model_dump() == {"name": "resnet18", "width": 64, "dropout": 0.0}
    assert config.optimizer.model_dump() == {
        "name": "sam", "learning_rate": 1e-3, "momentum": 0.9, "rho": 0.05,
        "weight_decay": 0.0, "schedule": "constant",
    }  # fmt: skip
    assert config.acquisition.model_dump() == {
        "name": "saal", "mode": "max_diversity", "labels": "pseudo", "rho": 0.05, "adaptive": True,
        "screening": 1.0, "precision": "float32",
    }  # fmt: skip
    labelled = [20 + 10 * cycle for cycle in range(101)]
    assert sum(50 * -(-count // 10) for count in labelled) == 262_600  # optimiser steps per seed


@pytest.mark.parametrize(
    ("name", "today"),
    [
        ("digits_random", "digits_saal"),
        ("cifar10_random_adam", "cifar10_saal_adam"),
        ("fashion_mnist_random_small", "fashion_mnist_saal_small"),
    ],
)
def test_a_name_of_an_older_version_says_what_replaces_it(name, today):
    with pytest.raises(InputError) as error:
        schema.load(name)
    assert str(error.value) == f"--config={name}: write --config={today} --config.acquisition.name=random"


def test_a_config_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from experiments.configs import digits_saal\nconfig = digits_saal.config.but(cycles=2)\n")
    assert schema.load(str(path)).cycles == 2
    path.write_text("config = {}\n")
    with pytest.raises(InputError, match="the file must define `config`"):
        schema.load(str(path))
    path.write_text("raise SystemExit('not today')\n")
    with pytest.raises(InputError, match="mine.py: SystemExit: not today"):
        schema.load(str(path))
    path.write_text("config = nothing\n")
    with pytest.raises(InputError, match="mine.py: NameError: name 'nothing' is not defined"):
        schema.load(str(path))
    with pytest.raises(InputError, match="there is no such file"):
        schema.load(str(tmp_path / "other.py"))
    with pytest.raises(InputError, match="did you mean cifar10_saal?"):
        schema.load("cifar10_sal")


COMMANDS = [
    line.split("#")[0].split()
    for path in (Path(__file__).parents[2] / "README.md", *(Path(__file__).parents[2] / "docs").glob("*.md"))
    for line in path.read_text().replace("\\\n", " ").splitlines()
    if line.strip().startswith("python -m experiments.") and "--config=" in line
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_of_the_documents_names_keys_that_exist(words):
    (name,) = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    changes = [word.replace("'", "") for word in words if word.startswith("--config.")]
    assert schema.override(schema.load(name), changes)


@pytest.mark.parametrize(
    ("name", "first", "query_size", "cycles", "subset", "last"),
    [
        ("cifar10_stconal", 1000, 1000, 4, 10_000, 5000),
        ("cifar100_stconal", 2000, 2000, 4, 20_000, 10_000),
        ("cifar10_ll4al", 1000, 1000, 9, 10_000, 10_000),
        ("cifar100_sslpm", 2500, 2500, 5, None, 15_000),
    ],
)
def test_the_published_protocols_of_the_neighbours(name, first, query_size, cycles, subset, last):
    config = schema.load(name)
    found = (config.initial_labels, config.query_size, config.cycles, config.pool_subset)
    assert found == (first, query_size, cycles, subset) and first + cycles * query_size == last
    assert (config.epochs, config.batch_size, config.initial_selection.name) == (200, 128, "random")
    assert config.optimizer.model_dump() == {
        "name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4,
        "schedule": "constant" if "stconal" in name else "step",
    }  # fmt: skip
    assert config.warm_start == ("sslpm" in name)
