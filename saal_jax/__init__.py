"""Sharpness-aware active learning in JAX: which unlabelled images should be labelled next."""

import warnings

from saal_jax.engine.sweep import score_pool
from saal_jax.errors import InputError
from saal_jax.labels import Labels, nothing_known, tell
from saal_jax.loop import Asked, Examples, Problem, Protocol, State, ask, fit, make_pool, seed_key, simulate
from saal_jax.scores import (
    expected_gradient_length,
    gradient_norm,
    max_perturbed_loss,
    sharpness,
    upper_bound_terms,
)
from saal_jax.select.selectors import Selection, kmeans_plusplus, random_k, top_k
from saal_jax.spec import load_model

__all__ = [
    "Asked",
    "Examples",
    "InputError",
    "Labels",
    "Problem",
    "Protocol",
    "Selection",
    "State",
    "ask",
    "expected_gradient_length",
    "fit",
    "gradient_norm",
    "kmeans_plusplus",
    "load_model",
    "make_pool",
    "max_perturbed_loss",
    "nothing_known",
    "random_k",
    "score_pool",
    "seed_key",
    "sharpness",
    "simulate",
    "tell",
    "top_k",
    "upper_bound_terms",
]


def __getattr__(name):
    if name == "random":  # as it was called before 0.2, where it also named a method and a first choice
        warnings.warn("saal_jax.random is now saal_jax.random_k", DeprecationWarning, stacklevel=2)
        return random_k
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
