"""Acquisition methods: one module each, holding a function of the module's name.

That function takes, as positional arguments, what it needs of the training recipe (by the names of
`saal_jax.recipes.OFFERS`), and as keyword-only arguments its options, typed. It returns `acquire(query) -> Acquired`,
compiled once for all cycles. A module whose name begins with an underscore holds what several of them share.

The docstring of the module says in its first line what the method picks, and from which paper; in a line `Cost:` what
it computes per example, in forward passes; in a line `Scales:` how time and memory grow with the N candidates, L
labels, k picks, C classes and D features.
"""

from saal_jax.registry import functions_of

ACQUISITIONS = functions_of(__name__, __path__)
