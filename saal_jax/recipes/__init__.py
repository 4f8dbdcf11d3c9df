"""Training recipes: one module each, holding a function of the module's name.

That function takes `Ingredients`, and as keyword-only arguments its options, typed; it returns a `Recipe`. Which
acquisitions run under it is decided by what it offers alone.
"""

from saal_jax.registry import functions_of

# What an acquisition may ask for by the name of an argument: what it is, and which config offers it.
OFFERS = {
    "apply": ("the network's outputs", "every recipe"),
    "logits": ("logits [B, C] of one class for each image", "the task classification"),
    "pixels": ("logits [B, H, W, C] of each pixel", "the task segmentation"),
    "features": ("penultimate features [B, D]", "every recipe"),
    "task": ("what a label is", "every recipe"),
    "normalize": ("images as the network sees them", "every recipe"),
    "sample_logits": (
        "logits [B, T, C] of several networks",
        "in task classification the recipe ensemble, or dropout above 0",
    ),
    "predicted_loss": (
        "a module's prediction of the loss [B]",
        "the recipe loss_prediction or semi_supervised_loss_prediction",
    ),
    "teacher": ("logits [B, C] of an averaged network", "the recipe snapshots"),
    "students": ("logits [B, S, C] of late snapshots", "the recipe snapshots"),
}

RECIPES = functions_of(__name__, __path__)
