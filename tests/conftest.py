import os
from pathlib import Path

# The same small programs are compiled by many tests and by the processes they start: share them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Compiling is most of the suite's time. `make test-all` compiles as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402  (it reads the environment)
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# Programs of their own, run by their neighbours.
collect_ignore = ["experiments/interrupted.py", "properties/child.py"]

# `make test` tries the same few examples everywhere, `make test-all` a thousand others each time.
slow_or_shared = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("few", max_examples=20, deadline=None, derandomize=True, suppress_health_check=slow_or_shared)
settings.register_profile("thorough", settings.get_profile("few"), max_examples=1000, derandomize=False)
settings.load_profile("few")


@pytest.fixture(autouse=True)
def _compiled_as_users_do(request):
    """Of tests about rounding, memory or what XLA fuses, in modules marked `optimized`."""
    before = jax.config.read("jax_disable_most_optimizations")
    if request.node.get_closest_marker("optimized"):
        jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def _no_silent_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def recipes_made_once():
    """Runs of one network, optimizer and recipe in one process share its compiled functions."""
    from experiments import setup

    recipe_of, make_acquisition, made = setup.recipe_of, setup.make_acquisition, {}
    elsewhere = {*setup.Protocol._fields, "dataset", "split", "test_split", "seeds", "acquisition", "imbalance"}
    # As arguments, or not what a recipe is made of:
    elsewhere |= {"embeddings", "initial_selection", "max_resident", "mean", "std"}

    def recipe_once(config, *rest):
        key = config.model_dump_json(exclude=elsewhere), str(rest)
        if key not in made:
            made[key] = recipe_of(config, *rest)
        return made[key]

    def acquisition_once(options, offers, recipe_name):
        key = str(options), id(offers)  # those of a recipe, which `made` keeps
        if key not in made:
            made[key] = make_acquisition(options, offers, recipe_name)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "recipe_of", recipe_once)
        patch.setattr(setup, "make_acquisition", acquisition_once)
        yield
