"""What a label is, a module for each kind: its loss, the model's own answer, and how predictions are measured.

A module holds a function of its name, `(num_classes, augmentation, moves, image_shape, *, options) -> Task`, and
`HEADLINE`, the name of the metric that curves show. `augmentation(key, images) -> images` and, for labels that move
with their image, `moves(key, images) -> Move[B]` are the same change; `moves` is None where there is no such.
"""

import sys

from saal_jax.registry import functions_of
from saal_jax.tasks._task import Task

TASKS = functions_of(__name__, __path__)
HEADLINES: dict[str, str] = {name: vars(sys.modules[task.__module__])["HEADLINE"] for name, task in TASKS.items()}

__all__ = ["HEADLINES", "TASKS", "Task"]
