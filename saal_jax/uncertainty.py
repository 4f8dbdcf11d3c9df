"""`saal_jax.scores.uncertainty` under its public name."""

from saal_jax.scores.uncertainty import entropy, least_confidence, margin, mutual_information, variation_ratio

__all__ = ["entropy", "least_confidence", "margin", "mutual_information", "variation_ratio"]
