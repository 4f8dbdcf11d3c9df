"""The file of a setting: a network's name, width and weights, and what else the contenders need to start alike."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.npyio import NpzFile

from saal_jax.models import MODELS, Model, Weights
from saal_jax.preprocessing import unchanged
from saal_jax.tasks import TASKS, Task
from saal_jax.typing import Array

CLASSES, MAX_BOXES = 10, 30
OPTIONS: dict[str, dict] = {
    "center_net": {"name": "detection", "max_boxes": MAX_BOXES},
    "unet": {"name": "segmentation"},
}


def save(file: Path, name: str, width: int, weights: Weights, **arrays: Any) -> None:
    """Writes what `load`, and `torch_networks.load`, read."""
    flat: dict[str, Any] = {}
    for part, tree in weights._asdict().items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            flat[f"{part}/" + "/".join(key.key for key in path)] = np.asarray(leaf)
    np.savez(file, model=name, width=width, **arrays, **flat)


def load(stored: NpzFile) -> tuple[Model, Weights]:
    """The model and its weights."""
    weights = Weights({}, {})
    for name in stored.files:
        if "/" in name:
            part, *path, last = name.split("/")
            tree = getattr(weights, part)
            for key in path:
                tree = tree.setdefault(key, {})
            tree[last] = jnp.asarray(stored[name])
    return MODELS[str(stored["model"])](CLASSES, width=int(stored["width"])), weights


def load_task(stored: NpzFile) -> Task:
    """What the network predicts: its loss, and its own answer."""
    options = dict(OPTIONS.get(str(stored["model"]), {"name": "classification"}))
    return TASKS[options.pop("name")](CLASSES, unchanged, None, stored["images"].shape[1:], **options)


def forward_operations(model: Model, weights: Weights, images: Array) -> float:
    """Operations of one forward pass of one image."""
    analysis: Any = jax.jit(model.apply).lower(weights, images[:1]).compile().cost_analysis()
    return analysis["flops"]
