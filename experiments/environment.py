"""What the draws and the rounding of a run depend on beside its config."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

# Flags of JAX that change what is drawn, with their defaults; a run is only continued under those it was begun with.
# The generator itself is no flag here: keys are of saal_jax.keys.GENERATOR.
DRAWS = {
    "jax_enable_x64": False,
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
}
_PRECISION = "jax_default_matmul_precision"  # an attribute that JAX 0.10 does not declare
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets", "saal_jax")


def environment() -> dict[str, Any]:
    """The flags of `DRAWS`, and what changes rounding: versions, kind and number of devices, settings of XLA."""
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}{processes}",
        "matmul_precision": getattr(jax.config, _PRECISION) or "default",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
        **{flag: getattr(jax.config, flag, default) for flag, default in DRAWS.items()},
        **{package: importlib.metadata.version(package) for package in PACKAGES},
    }


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What changed that alters draws, and what alters rounding only, each as `name old -> new`.

    What `old` lacks, because the version that wrote it did not record it, counts as unchanged.
    """
    altered = [f"{key} {old[key]} -> {value}" for key, value in new.items() if old.get(key, value) != value]
    draws = [change for change in altered if change.split()[0] in DRAWS]
    return draws, [change for change in altered if change not in draws]
