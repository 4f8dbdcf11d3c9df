"""What a label is, a module for each kind: its loss, the model's own answer, and how predictions are measured."""

from saal_jax.tasks.task import Task

__all__ = ["Task"]
