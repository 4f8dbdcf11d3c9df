"""Acquisition methods: one module each, holding a function of the module's name.

That function takes, as positional arguments, what it needs of the training recipe (by name: `apply`), and as
keyword-only arguments its options, typed. It returns
`acquire(key, pool, available[N], k, weights, sweep) -> (Selection, scores[N])`, with NaN where nothing was scored. It
scores with `sweep(score_fn, weights, arrays, available, *, precision) -> scores[N]`, which knows chunks, devices and
progress.
"""

import importlib
import pkgutil

ACQUISITIONS = {
    name: getattr(importlib.import_module(f"{__name__}.{name}"), name) for _, name, _ in pkgutil.iter_modules(__path__)
}
