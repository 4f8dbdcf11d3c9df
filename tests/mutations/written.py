"""Changes written by hand: each breaks a promise of a run that its files alone can show."""

from typing import NamedTuple


class Written(NamedTuple):
    """A change: what is then wrong, and what becomes of which text of which file; `tests` must see it, with
    their `slow` ones where the clock alone can tell.
    """

    about: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ("tests/test_wiring.py",)
    slow: bool = False


LOOP, TRAINING, RECIPES = "saal_jax/loop.py", "saal_jax/training.py", "saal_jax/recipes"
CHANGES = (
    Written(
        "a cold start keeps the weights of the cycle before",
        LOOP,
        "state.trained if protocol.warm_start and state else",
        "state.trained if state else",
    ),
    Written(
        "one batch order for all epochs",
        TRAINING,
        'batches_of(named(epoch_key, "order"), training, mask)',
        'batches_of(named(key, "order"), training, mask)',
    ),
    Written(
        "one augmentation for all epochs",
        TRAINING,
        "batches, num_steps, epoch_key, rates)",
        "batches, num_steps, key, rates)",
    ),
    Written(
        "all seeds from the same initial weights",
        LOOP,
        'recipe.init(named(key, "initial weights"))',
        "recipe.init(make_key(0))",
    ),
    Written(
        "selections.csv with another example's score",
        LOOP,
        "Asked(chosen, scores[chosen],",
        "Asked(chosen, scores[chosen[::-1]],",
    ),
    Written(
        "teacher_accuracy that is the network's own",
        LOOP,
        'measured("teacher", test)[task.headline]',
        'measured("apply", test)[task.headline]',
    ),
    Written(
        "ensemble members with one batch order",
        f"{RECIPES}/ensemble.py",
        'alone.train(named(key, "member", member), start',
        "alone.train(key, start",
    ),
    Written(
        'labels="true" that uses pseudo labels',
        "saal_jax/acquisitions/saal.py",
        'if labels != "true":',
        "if True:",
    ),
    Written(
        "weight decay after the momentum",
        "saal_jax/optimizers.py",
        "    descent = optax.sgd(learning_rate, momentum)\n"
        "    return optax.chain(optax.add_decayed_weights(weight_decay), descent) if weight_decay else descent\n",
        "    decay = optax.add_decayed_weights(weight_decay)\n"
        "    return optax.chain(optax.trace(momentum), decay, optax.scale(-learning_rate))\n",
    ),
    Written(
        "balanced accuracy NaN where a class has no test image",
        "experiments/tables.py",
        "np.nanmean(",
        "np.mean(",
    ),
    Written(
        "an estimate a thousand times too long",
        "experiments/estimate.py",
        "seconds=len(cycles) * per_cycle\n        + steps * per_step",
        "seconds=len(cycles) * per_cycle\n        + 1000 * steps * per_step",
        slow=True,
    ),
    Written(
        "an estimate of 0 bytes on disk",
        "experiments/estimate.py",
        "disk=state_bytes * (",
        "disk=0 * (",
    ),
    Written(
        "the pool's mean replaced by 0",
        "experiments/setup.py",
        "return config.mean or mean,",
        "return config.mean or [0.0 * value for value in mean],",
    ),
    Written(
        "snapshots that are all the last epoch's weights",
        f"{RECIPES}/snapshots.py",
        "weights_after[number] = copied(state.weights)",
        "weights_after.update(dict.fromkeys(taken, copied(state.weights)))",
    ),
    Written(
        "rates of the epoch after",
        TRAINING,
        "rates_fn(epoch / training.epochs)",
        "rates_fn((epoch + 1) / training.epochs)",
        ("tests/test_training.py", "tests/test_recipes.py"),
    ),
)
