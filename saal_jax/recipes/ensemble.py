"""Several networks that differ in their initialisation and in the order of their batches (Beluch et al., CVPR 2018)."""

from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le

from saal_jax.errors import InputError
from saal_jax.keys import named
from saal_jax.models import Weights
from saal_jax.recipes.supervised import LOGITS, supervised
from saal_jax.training import Ingredients, Recipe, TrainState


def ensemble(ingredients: Ingredients, *, members: Annotated[int, Ge(2), Le(100)] = 5) -> Recipe:
    """`members` networks, each trained as by `supervised`; their probabilities are averaged, their features joined."""
    alone, mean_outputs = supervised(ingredients), ingredients.task.mean_outputs
    if mean_outputs is None:
        raise InputError("recipe ensemble: this task has no mean of several outputs; use recipe supervised")

    def init(key):
        return _joined([alone.init(named(key, "member", member)) for member in range(members)])

    def train_members(key, state, training, progress=None):
        states, losses = [], []
        for member in range(members):
            report = progress and (lambda done, total, before=member: progress(before * total + done, members * total))
            weights = Weights(state.weights.params[member], state.weights.batch_stats[member])
            start = TrainState(weights, state.opt_state[member])
            trained, loss = alone.train(named(key, "member", member), start, training, report)
            states.append(trained)
            losses.append(loss)
        return _joined(states), sum(losses) / members

    def each(name, weights, images):
        pairs = zip(weights.params, weights.batch_stats, strict=True)
        return [alone.offers[name](Weights(*member), images) for member in pairs]

    def sample_logits(weights, images, keys, samples):
        """Those of all members, whatever the number of samples."""
        del keys, samples
        return jnp.stack(each("apply", weights, images), axis=1)

    def apply(weights, images):
        outputs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each("apply", weights, images))
        return mean_outputs(outputs)

    def features(weights, images):
        return jnp.concatenate(each("features", weights, images), axis=1)

    offers: dict = {"apply": apply, "features": features}
    offers |= {name: apply for name in LOGITS if name in alone.offers}
    if "logits" in offers:
        offers["sample_logits"] = sample_logits
    return Recipe(init, train_members, alone.offers | offers, alone.mesh)


def _joined(states):
    weights, opt_states = zip(*states, strict=True)
    return TrainState(Weights(*zip(*weights, strict=True)), opt_states)
