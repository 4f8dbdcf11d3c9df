"""How informative is an unlabelled image? Functions of a model, its weights and images, `[N]` scores out."""

from saal_jax.scores.bound import expected_gradient_length, gradient_norm, upper_bound_terms
from saal_jax.scores.perturbed_loss import max_perturbed_loss, sharpness

__all__ = ["expected_gradient_length", "gradient_norm", "max_perturbed_loss", "sharpness", "upper_bound_terms"]
