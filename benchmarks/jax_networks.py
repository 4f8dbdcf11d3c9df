"""The file of a setting: a network's name, width and weights, and what else the contenders need to start alike."""

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.models import MODELS, Weights


def save(file, name, width, weights, **arrays):
    """Writes what `load`, and `torch_networks.load`, read."""
    flat = {}
    for part, tree in weights._asdict().items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            flat[f"{part}/" + "/".join(key.key for key in path)] = np.asarray(leaf)
    np.savez(file, model=name, width=width, **arrays, **flat)


def load(stored):
    """The model and its weights."""
    weights = Weights({}, {})
    for name in stored.files:
        if "/" in name:
            part, *path, last = name.split("/")
            tree = getattr(weights, part)
            for key in path:
                tree = tree.setdefault(key, {})
            tree[last] = jnp.asarray(stored[name])
    return MODELS[str(stored["model"])](10, width=int(stored["width"])), weights


def forward_operations(model, weights, images):
    """Operations of one forward pass of one image."""
    analysis = jax.jit(model.apply).lower(weights, images[:1]).compile().cost_analysis()
    return analysis["flops"]
