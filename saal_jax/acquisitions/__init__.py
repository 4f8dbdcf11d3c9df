"""Acquisition methods: one module each, holding a function of the module's name.

That function takes, as positional arguments, what it needs of the training recipe (by the names of
`saal_jax.recipes.OFFERS`), and as keyword-only arguments its options, typed. It returns `acquire(query) -> Acquired`,
compiled once for all cycles. A module whose name begins with an underscore holds what several of them share.

The docstring of the module says in its first line what the method picks, and from which paper; in a line `Cost:` what
it computes per example, in forward passes; in a line `Scales:` how time and memory grow with the N candidates, L
labels, k picks, C classes and D features.
"""

import importlib
import pkgutil

ACQUISITIONS = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), name)
    for _, name, _ in pkgutil.iter_modules(__path__)
    if not name.startswith("_")
}
