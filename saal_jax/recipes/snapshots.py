"""Late snapshots of one training and a teacher that averages them (ST-CoNAL: Baik, Yoon and Choi, ACCV 2022)."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Ge, Gt, Le

from saal_jax.engine.devices import copied, local, replicate
from saal_jax.errors import InputError
from saal_jax.keys import named
from saal_jax.models import Weights
from saal_jax.models.layers import MOMENTUM
from saal_jax.recipes.supervised import network_offers, supervised
from saal_jax.training import (
    Ingredients,
    Recipe,
    TrainState,
    batches_of,
    make_epoch,
    make_step,
    prepared,
    supervised_loss,
    train,
)

_LARGEST_DECAY = 0.97


class SnapshotWeights(NamedTuple):
    """The network at the end of training, the `students` (the last snapshots, this network among them), the teacher."""

    params: Any
    batch_stats: Any
    students: tuple
    teacher: Weights


def snapshots(
    ingredients: Ingredients,
    *,
    count: Annotated[int, Ge(2), Le(100)] = 5,
    span: Annotated[float, Gt(0), Le(1)] = 0.2,
    teacher: Literal["average", "ema"] = "average",
) -> Recipe:
    """`count` snapshots over the last `span` of the epochs (160, 170, ..., 200 of 200), all but the first students.

    The teacher's weights are their average, or (`ema`) an exponential average over all steps t with decay
    `min(1 - 1 / (t + 1), 0.97)`; its batch statistics are the means over one pass through the labelled images.
    """
    if ingredients.task.classes_of == "box":
        raise InputError("recipe snapshots compares logits of students, which boxes do not have: use recipe supervised")
    alone, schedule = supervised(ingredients), ingredients.optimizer.schedule
    step = _averaging(make_step(supervised_loss(ingredients.model, ingredients.task), ingredients))
    epoch = make_epoch(step, ingredients)
    statistics_epoch = make_epoch(_statistics_step(ingredients), ingredients)

    def init(key):
        state = alone.init(key)
        weights = SnapshotWeights(
            state.weights.params, state.weights.batch_stats, (state.weights,) * (count - 1), state.weights
        )
        return TrainState(weights, state.opt_state)

    def train_network(key, state, training, progress=None):
        taken = [max(1, round(training.epochs * (1 - span * index / (count - 1)))) for index in reversed(range(count))]
        weights_after = {}  # epochs

        def after_epoch(number, state):
            if number in taken:
                weights_after[number] = copied(state.weights)

        weights = Weights(state.weights.params, state.weights.batch_stats)
        start = TrainState(weights, (state.opt_state, copied(weights.params), jnp.zeros((), jnp.int32)))
        rates_fn = lambda done: {"learning": schedule(done)}  # noqa: E731
        options = {"rates_fn": rates_fn, "mesh": ingredients.mesh, "progress": progress, "after_epoch": after_epoch}
        trained, loss = train(epoch, start, training, key, **options)
        opt_state, average, _ = trained.opt_state
        kept = [weights_after[number] for number in taken]
        if teacher == "average":
            average = jax.tree.map(lambda *leaves: sum(leaves) / count, *(weights.params for weights in kept))
        shapes = trained.weights.batch_stats
        averaged = Weights(average, statistics(named(key, "statistics"), average, shapes, training))
        return TrainState(
            SnapshotWeights(trained.weights.params, trained.weights.batch_stats, tuple(kept[1:]), averaged), opt_state
        ), loss

    def statistics(key, params, shapes, training):
        """Batch statistics of these weights: the mean over the batches of one epoch, in training mode, augmented."""
        order_key, pool, mesh = named(key, "order"), training.pool, ingredients.mesh
        batches, steps = batches_of(order_key, training, training.labelled)
        zeros = jax.tree.map(jnp.zeros_like, shapes)
        start, images, labels = replicate(((copied(params), zeros), pool.images, training.labels), mesh)
        (_, total), _ = statistics_epoch(start, images, labels, batches, steps, key, {})
        return jax.tree.map(lambda leaf: leaf / steps, local(total, mesh))

    apply = alone.offers["apply"]

    def teacher_logits(weights, images):
        return apply(weights.teacher, images)

    def student_logits(weights, images):
        return jnp.stack([apply(student, images) for student in weights.students], axis=1)

    offers = network_offers(ingredients.model, ingredients)
    offers |= {"teacher": teacher_logits, "students": student_logits}
    return Recipe(init, train_network, offers, ingredients.mesh)


def _averaging(step):
    """`step`, with the exponential average of the weights and the number of steps kept beside the optimizer's state."""

    def averaging_step(state, *rest):
        opt_state, average, count = state.opt_state
        state, loss = step(state._replace(opt_state=opt_state), *rest)
        decay = jnp.minimum(1 - 1 / (count + 1), _LARGEST_DECAY)
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, state.weights.params)
        return state._replace(opt_state=(state.opt_state, average, count + 1)), loss

    return averaging_step


def _statistics_step(ingredients):
    """Adds a batch's own statistics to a sum: what the running ones become from zero, over the share that is new."""

    def step(state, batch, key, rates):
        del rates
        params, total = state
        batch = prepared(ingredients, batch, named(key, "augmentation"))
        zeros = jax.tree.map(jnp.zeros_like, total)
        _, batch_stats = ingredients.model.outputs_train(
            Weights(params, zeros), batch.images, batch.mask, named(key, "dropout")
        )
        total = jax.tree.map(lambda a, b: a + b / (1 - MOMENTUM), total, batch_stats)
        return (params, total), jnp.zeros(())

    return step
