"""A labelled domain to train on beside the pool of another: each batch holds as many of its examples as bought ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.data.on_disk import join
from saal_jax.engine.devices import on_device
from saal_jax.engine.memory import on_disk
from saal_jax.pool import Pool, stable_ids
from saal_jax.training import Training
from saal_jax.typing import Images, PyTree


class Source(NamedTuple):
    """Labelled examples of another domain, S of them, that are trained on in every step and never bought.

    `pool` holds the N of the problem's pool, and then these; `labels[S, ...]` are theirs alone. What is measured on
    `test`, some `saal_jax.Examples`, tells whether they are forgotten.
    """

    pool: Pool
    labels: Any
    test: Any


def make_source(pool: Pool, images: Images, names: np.ndarray, labels: PyTree, test: Any) -> Source:
    """The `Source` of a problem with that pool, of labelled images `[S, H, W, C]` and their names, which differ from
    the pool's by the word before them.
    """
    names = np.array([f"source: {name}" for name in names])
    both = [pool.images, on_device(images)]
    joined = join(both) if any(map(on_disk, both)) else jnp.concatenate(both)
    ids = np.concatenate([pool.ids, stable_ids(names)])
    return Source(Pool(joined, ids, np.concatenate([pool.names, names])), labels, test)


def beside_source(training: Training, source: Source) -> Training:
    """What a cycle trains on, with the source's examples behind those of the pool."""
    own = np.arange(len(source.pool.ids)) < len(training.labelled)
    return training._replace(
        pool=source.pool,
        labels=jax.tree.map(lambda ours, others: jnp.concatenate([ours, others]), training.labels, source.labels),
        labelled=_among(own, training.labelled),
        new=_among(own, training.new),
        source=~own,
    )


def _among(own, mask):
    """The `mask[N]` of the pool's examples as one over all of them."""
    everything = np.zeros(len(own), bool)
    everything[own] = mask
    return everything
