"""Sharpness-aware active learning in JAX: which unlabelled images should be labelled next."""

from saal_jax.bound import expected_gradient_length, gradient_norm, upper_bound_terms
from saal_jax.checkpoint import load_model
from saal_jax.errors import InputError
from saal_jax.scores import max_perturbed_loss, sharpness
from saal_jax.selection import Selection, kmeans_plusplus, random, top_k
from saal_jax.sweep import score_pool

__all__ = [
    "InputError",
    "Selection",
    "expected_gradient_length",
    "gradient_norm",
    "kmeans_plusplus",
    "load_model",
    "max_perturbed_loss",
    "random",
    "score_pool",
    "sharpness",
    "top_k",
    "upper_bound_terms",
]
