"""Acquisition methods: one module each, holding a function of the module's name.

That function takes, as positional arguments, what it needs of the training recipe (by name: `apply`), and as
keyword-only arguments its options, typed. It returns
`acquire(key, pool, available[N], k, weights, progress) -> (Selection, scores[N])`, with NaN where nothing was scored.
"""

import importlib
import pkgutil

ACQUISITIONS = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), name) for _, name, _ in pkgutil.iter_modules(__path__)
}
