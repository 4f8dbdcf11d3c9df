"""Recipes: what they train, what they offer, and that a run of any of them continues to the same bits."""

from functools import partial
from typing import get_args

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import InputError
from saal_jax.models import _functions as functions
from saal_jax.models import small_cnn
from saal_jax.models.layers import BatchNorm, Linear, Outputs
from saal_jax.moves import VOID
from saal_jax.optimizers import SCHEDULES, Schedule, adam, sgd
from saal_jax.pool import Pool
from saal_jax.preprocessing import crop_and_flip
from saal_jax.recipes import OFFERS, RECIPES
from saal_jax.recipes.loss_prediction import pair_loss
from saal_jax.recipes.semi_supervised_loss_prediction import _pair_cost
from saal_jax.spec import make_recipe
from saal_jax.training import Training
from tests.toys import BATCH, IDS, IMAGES, LABELS, NETWORK, NORMALIZE, POOL, SGD, SIZE, recipe

LONGEST = "semi_supervised_loss_prediction"  # to compile
QUICK = [pytest.param(name, marks=pytest.mark.slow) if name == LONGEST else name for name in RECIPES]
OPTIONS = {"ensemble": {"members": 3}, "semi_supervised_loss_prediction": {"left_out": 2, "module_epochs": 2}}


def make(name, model=NETWORK, optimizer=SGD, **options):
    return recipe(name, model, optimizer, **OPTIONS.get(name, {}) | options)


def training(labelled=IDS < 14, new=IDS < 0, cycle=0, cycles=2, epochs=5, pool=POOL):
    return Training(pool, LABELS, labelled, new, cycle, cycles, epochs, BATCH, capacity=20)


def trained(recipe, **changes):
    return recipe.train(jax.random.key(2), recipe.init(jax.random.key(1)), training(**changes))


def ask(recipe, offer, weights, *args, **options):
    """What a recipe offers, compiled."""
    return jax.jit(partial(recipe.offers[offer], **options))(weights, *args)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_repeats_to_the_bit_and_offers_what_it_says(name):
    recipe = make(name, small_cnn(3, width=2, dropout=0.2))
    start = jax.tree.map(np.array, recipe.init(jax.random.key(1)))
    state, loss = trained(recipe, epochs=20)
    _, first_loss = trained(recipe, epochs=1)
    assert loss < first_loss
    chex.assert_trees_all_equal(trained(recipe, epochs=20)[0], state)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, start)
    assert recipe.offers.keys() <= OFFERS.keys()
    shapes = {"apply": (5, 3), "teacher": (5, 3), "students": (5, 4, 3), "predicted_loss": (5,)}
    for offer in recipe.offers.keys() & shapes.keys():
        assert ask(recipe, offer, state.weights, IMAGES[:5]).shape == shapes[offer]
    features = ask(recipe, "features", state.weights, IMAGES[:5])
    assert features.ndim == 2 and np.isfinite(features).all()
    keys = jax.random.split(jax.random.key(0), 5)
    assert ask(recipe, "sample_logits", state.weights, IMAGES[:5], keys, samples=7).shape[::2] == (5, 3)


@pytest.mark.parametrize("name", QUICK)
def test_images_on_disk_train_to_the_same_bits_in_one_program(name, tmp_path):
    def counted(key, images):
        traces.append(images.shape)
        return crop_and_flip(key, images)

    traces, recipe = [], make(name, small_cnn(3, width=2, dropout=0.2), augment=counted)
    mapped = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, IMAGES.shape)
    mapped[:] = IMAGES
    first, second = {"labelled": IDS < 14}, {"labelled": IDS < 18, "new": (IDS >= 14) & (IDS < 18), "cycle": 1}
    found = [trained(recipe, pool=POOL._replace(images=mapped), **changes) for changes in (first, second)]
    programs = len(traces)
    assert programs == len(set(traces)) + (name in ("snapshots", "semi_supervised_loss_prediction"))
    for changes, (state, loss) in zip((first, second), found, strict=True):
        expected, expected_loss = trained(recipe, **changes)
        chex.assert_trees_all_equal(state, expected)
        assert loss == expected_loss
    assert len(traces) == 2 * programs


@pytest.mark.parametrize("name", QUICK)
def test_progress_rises_to_its_total(name):
    recipe, calls = make(name), []
    recipe.train(
        jax.random.key(2), recipe.init(jax.random.key(1)), training(epochs=3), lambda *call: calls.append(call)
    )
    (total,) = {total for _, total in calls}
    assert [done for done, _ in calls] == list(range(1, total + 1))
    assert total == {"ensemble": 3 * 3, "semi_supervised_loss_prediction": 3 + 2}.get(name, 3)


def test_samples_of_dropout_scatter_around_the_network_and_follow_their_keys():
    recipe = make("supervised", small_cnn(3, width=8, dropout=0.5))
    weights = recipe.init(jax.random.key(0)).weights
    keys = jax.random.split(jax.random.key(1), 2)
    sample = partial(ask, recipe, "sample_logits", weights, samples=4000)
    found = sample(IMAGES[:2], keys)
    spread = found.std(axis=1) / np.sqrt(4000)
    assert (jnp.abs(found.mean(axis=1) - ask(recipe, "apply", weights, IMAGES[:2])) < 5 * spread).all()
    np.testing.assert_allclose(sample(IMAGES[1::-1], keys[::-1])[::-1], found, rtol=1e-5, atol=1e-6)
    assert (sample(IMAGES[:2], keys[::-1]) != found).any()
    assert "sample_logits" not in make("supervised").offers


def test_an_ensemble_averages_probabilities_of_networks_that_differ():
    recipe = make("ensemble")
    state, _ = trained(recipe)
    members = ask(recipe, "sample_logits", state.weights, IMAGES, keys=None, samples=None)
    assert members.shape == (SIZE, 3, 3)
    assert jnp.abs(members[:, 0] - members[:, 1]).max() > 0.01
    expected = jax.nn.softmax(members).mean(axis=1)
    np.testing.assert_allclose(jax.nn.softmax(ask(recipe, "apply", state.weights, IMAGES)), expected, rtol=1e-5)


def test_the_teacher_is_the_mean_of_the_snapshots_and_the_last_student_the_network():
    recipe = make("snapshots", count=3, span=0.4)
    state, _ = trained(recipe, epochs=5)
    alone = [trained(make("supervised"), epochs=5)[0].weights]
    weights = state.weights
    chex.assert_trees_all_close(weights.params, alone[0].params, rtol=1e-6)
    chex.assert_trees_all_equal(weights.students[-1].params, weights.params)
    assert len(weights.students) == 2
    stopped = {}
    for epochs in (3, 4, 5):  # a constant rate and the same order of batches: the snapshots of a shorter training
        stopped[epochs] = trained(make("supervised"), epochs=epochs)[0].weights.params
    chex.assert_trees_all_close(weights.students[0].params, stopped[4], rtol=1e-6)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *stopped.values())
    chex.assert_trees_all_close(weights.teacher.params, mean, rtol=1e-5)


def test_the_exponential_average_is_that_of_every_step():
    """One step per epoch: t = 0 forgets the start, t = 1 takes the mean, t = 2 a third."""
    recipe = make("snapshots", count=2, span=1.0, teacher="ema")
    labelled = IDS < 4
    found = trained(recipe, labelled=labelled, epochs=3)[0].weights.teacher.params
    steps = [trained(make("supervised"), labelled=labelled, epochs=epochs)[0].weights.params for epochs in (1, 2, 3)]
    chex.assert_trees_all_close(found, jax.tree.map(lambda *leaves: sum(leaves) / 3, *steps), rtol=1e-5)


def test_the_statistics_of_the_teacher_are_means_over_the_batches():
    class Network(nn.Module):
        dropout: float = 0.0

        @nn.compact
        def __call__(self, images, *, train=False, drop=False, mask=None):
            hidden = nn.relu(BatchNorm()(nn.Conv(2, (3, 3))(images), train=train, mask=mask))
            hidden = BatchNorm()(nn.Conv(4, (3, 3), 2)(hidden), train=train, mask=mask)
            features = hidden.mean((1, 2))
            return Outputs(Linear(3)(features), features, (hidden,))

    model = functions(Network())
    weights = trained(make("snapshots", model, count=2), labelled=IDS < 4, epochs=2)[0].weights
    zeros = jax.tree.map(jnp.zeros_like, weights.batch_stats)
    _, once = jax.jit(model.outputs_train)(
        weights.teacher._replace(batch_stats=zeros), NORMALIZE(IMAGES[:4]), jnp.ones(4), jax.random.key(0)
    )  # one batch holds all: its own statistics, of which a step takes a tenth
    expected = jax.tree.map(lambda leaf: 10 * leaf, once)
    chex.assert_trees_all_close(weights.teacher.batch_stats, expected, rtol=1e-3, atol=1e-5)


def test_pairs_by_hand():
    predicted, losses = jnp.array([1.0, 5.0, 2.0, 9.0, 4.0]), jnp.array([3.0, 0.0, 1.0, 9.0, 2.0])
    mask = jnp.array([1, 0, 1, 1, 1])  # rows 0, 2, 3, 4: pairs (0, 4) and (2, 3)
    both = lambda p, l: 10 * p + l  # noqa: E731, E741
    assert pair_loss(both, predicted, losses, mask) == ((10 * -3 + 1) + (10 * -7 - 8)) / 2
    assert pair_loss(both, predicted, losses, jnp.array([1, 1, 0, 0, 1])) == 10 * -3 + 1  # 1 is in the middle
    assert pair_loss(both, predicted, losses, jnp.array([0, 1, 0, 0, 0])) == 0


def test_costs_of_pairs_by_hand():
    """`log(1 + exp(-2))` where the larger loss is predicted larger by 2, `log(1 + exp(2))` where it is not."""
    costs = _pair_cost(jnp.full(3, 2.0), jnp.array([0.5, -0.5, 0.0]))
    np.testing.assert_allclose(costs, [0.126928, 2.126928, 2.126928], rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["loss_prediction", pytest.param("semi_supervised_loss_prediction", marks=pytest.mark.slow)]
)
def test_a_module_learns_to_rank_losses(name):
    """Labels that cannot be learnt at a tiny rate: the losses stay, and the module finds their order."""
    recipe = make(name, small_cnn(3, width=8), adam(learning_rate=3e-3))
    state, _ = trained(recipe, epochs=60, labelled=IDS < 16)
    predicted = ask(recipe, "predicted_loss", state.weights, IMAGES[:16])
    logits = ask(recipe, "apply", state.weights, IMAGES[:16])
    losses = -jax.nn.log_softmax(logits)[np.arange(16), LABELS[:16]]
    assert np.corrcoef(np.argsort(np.argsort(predicted)), np.argsort(np.argsort(losses)))[0, 1] > 0.3


def test_the_module_leaves_the_network_alone_when_told():
    plain, _ = trained(make("supervised"))
    detached = make("loss_prediction", joint=0.0)
    start = detached.init(jax.random.key(1))
    chex.assert_trees_all_equal(
        start.weights.params["network"], make("supervised").init(jax.random.key(1)).weights.params
    )
    state, _ = trained(detached)
    chex.assert_trees_all_close(state.weights.params["network"], plain.weights.params, rtol=1e-5, atol=1e-7)
    joint, _ = trained(make("loss_prediction", joint=1.0))
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), joint.weights.params["network"], plain.weights.params)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_schedules():
    assert get_args(Schedule) == tuple(SCHEDULES)
    assert [SCHEDULES["step"](epoch / 200) for epoch in (0, 159, 160, 199)] == [1, 1, 0.1, 0.1]
    assert SCHEDULES["cosine"](0) == 1 and SCHEDULES["cosine"](0.5) == pytest.approx(0.5)
    rates = [SCHEDULES["one_cycle"](done) for done in (0, 0.15, 0.3, 0.65, 1)]
    assert rates == pytest.approx([0.04, (1 + 0.04) / 2, 1, 0.5, 0.04 / 1e4], abs=1e-3)
    halted = make("supervised", optimizer=sgd(learning_rate=0.05)._replace(schedule=lambda done: float(done < 0.5)))
    half = trained(make("supervised"), epochs=2)[0].weights
    chex.assert_trees_all_equal(trained(halted, epochs=4)[0].weights.params, half.params)


def sslpm(**options):
    return make("semi_supervised_loss_prediction", **options)


def test_the_second_stage_moves_the_module_alone_and_is_left_out_in_the_last_cycle():
    both, _ = trained(sslpm())
    first, _ = trained(sslpm(module_epochs=0))
    chex.assert_trees_all_equal(both.weights.params["network"], first.weights.params["network"])
    moved = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), both.weights.params["module"], first.weights.params["module"]
    )
    assert max(jax.tree.leaves(moved)) > 1e-5
    last = [trained(sslpm(module_epochs=epochs), cycle=2)[0] for epochs in (0, 2)]
    chex.assert_trees_all_equal(*last)


@pytest.mark.slow
def test_unlabelled_images_teach_where_the_network_is_sure():
    images = POOL.images.at[14:].set(0)
    other = POOL._replace(images=images)

    def module_after(confidence, pool):
        recipe = sslpm(confidence=confidence, left_out=0)
        state = recipe.init(jax.random.key(1))
        return recipe.train(jax.random.key(2), state, training()._replace(pool=pool))[0].weights.params["module"]

    chex.assert_trees_all_equal(module_after(1.0, POOL), module_after(1.0, other))  # never quite sure
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), module_after(0.0, POOL), module_after(0.0, other))
    assert max(jax.tree.leaves(moved)) > 1e-6
    network, _ = trained(sslpm(left_out=0, module_epochs=0))
    sureness = jax.nn.softmax(ask(sslpm(), "apply", network.weights, IMAGES[14:])).max(1)
    some = float(jnp.median(sureness))  # sure of one half of them
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), module_after(some, POOL), module_after(1.0, POOL))
    assert max(jax.tree.leaves(moved)) > 1e-6


def test_the_easiest_old_and_new_images_sit_out():
    """What the first stage sees cannot depend on the content of those that sit out, except through their loss."""
    recipe = sslpm(left_out=2, module_epochs=0)
    labelled, newer = IDS < 12, (IDS >= 6) & (IDS < 12)
    weights = recipe.init(jax.random.key(1)).weights
    losses = -jax.nn.log_softmax(ask(recipe, "apply", weights, IMAGES[:12]))[np.arange(12), LABELS[:12]]
    easiest = [int(losses[:6].argmin()), 6 + int(losses[6:].argmin())]
    mask = labelled & ~np.isin(IDS, easiest)
    expected = trained(sslpm(left_out=0, module_epochs=0), labelled=mask, cycle=1)[0]
    for new in (newer, labelled & ~newer):  # the easiest of all is once old and once new
        state = trained(recipe, labelled=labelled, new=new, cycle=1)[0]
        chex.assert_trees_all_equal(state.weights, expected.weights)
    with pytest.raises(InputError, match="left_out is 30 of 12 labelled images: lower it"):
        trained(sslpm(left_out=30), labelled=labelled)


def test_the_module_convolves_all_stages_but_the_last():
    def kernels(name):
        module = make(name).init(jax.random.key(1)).weights.params["module"]
        return sum(leaf.ndim == 4 for leaf in jax.tree.leaves(module))

    stages = len(NETWORK.outputs(NETWORK.init(jax.random.key(0), IMAGES[:1] / 255), IMAGES[:1] / 255).stages)
    assert kernels("loss_prediction") == 0
    assert kernels("semi_supervised_loss_prediction") == stages - 1 > 0


def test_the_module_learns_at_its_own_rate():
    states = [
        trained(sslpm(module_rate=rate, module_epochs=0, left_out=0), epochs=1, labelled=IDS < 4)[0]
        for rate in (0.5, 1.0)
    ]
    start = sslpm().init(jax.random.key(1)).weights.params
    half, whole = (jax.tree.map(jnp.subtract, state.weights.params, start) for state in states)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: 2 * leaf, half["module"]), whole["module"], rtol=1e-3, atol=1e-6
    )
    chex.assert_trees_all_equal(half["network"], whole["network"])


def test_defaults_are_those_of_the_papers():
    """Beluch et al.: 5 networks. Yoo and Kweon: margin 1, weight 1, 128 wide, joint for 120 of 200 epochs. Baik et al.:
    snapshots after 160, 170, ..., 200 of 200 epochs. Hwang et al.: 24 images sit out, the module learns at .05 beside
    .1, then alone for 30 epochs with 12 x 128 unlabelled images a step, of which it takes those surer than .9.
    """
    published = {
        "ensemble": {"members": 5},
        "loss_prediction": {"margin": 1.0, "weight": 1.0, "joint": 120 / 200, "width": 128},
        "snapshots": {"count": 5, "span": 40 / 200, "teacher": "average"},
        "semi_supervised_loss_prediction": {
            "left_out": 24,
            "module_rate": 0.05 / 0.1,
            "module_epochs": 30,
            "module_learning_rate": 0.01,
            "unlabelled_batch": 12 * 128,
            "confidence": 0.9,
            "width": 128,
        },
    }
    assert {name: RECIPES[name].__kwdefaults__ for name in published} == published


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_is_compiled_anew_in_a_later_cycle(name):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    recipe = make(name)
    state = recipe.init(jax.random.key(0))
    for cycle, count in enumerate((8, 10, 12)):
        if cycle == 2:
            jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            labelled, new = IDS < count, (IDS >= count - 2) & (IDS < count)
            state, _ = recipe.train(jax.random.key(cycle), state, training(labelled, new, cycle, 5, epochs=2))
        finally:
            if cycle == 2:
                jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled


def test_a_module_of_pixels_learns_where_the_loss_is():
    """Half of every image has labels drawn by chance, the other one class; of the lower quarter nothing is known."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (24, 8, 8, 1)).astype(np.uint8)
    labels = np.zeros((24, 8, 8), np.uint8)
    labels[:, :, :4] = generator.integers(0, 2, (24, 8, 4))
    labels[:, 6:] = VOID
    made = make_recipe(
        {"name": "loss_prediction", "width": 8, "joint": 0.0},
        {"name": "unet", "width": 4, "depth": 2, "stride": 1},
        2,
        (8, 8, 1),
        (0.5,),
        (0.3,),
        task={"name": "segmentation", "rows": 4, "columns": 2},
        optimizer={"name": "adam", "learning_rate": 1e-2},
    )
    pool = Pool(jnp.asarray(images), np.arange(24, dtype=np.uint32), np.arange(24).astype(str))
    everything = np.ones(24, bool)
    training = Training(pool, jnp.asarray(labels), everything, everything, 0, 0, 30, 8, 24)
    state, _ = made.train(jax.random.key(0), made.init(jax.random.key(0)), training)
    predicted = np.asarray(made.offers["predicted_loss"](state.weights, pool.images))
    assert predicted.shape == (24, 8)
    by_region = predicted.reshape(24, 4, 2)[:, :3]
    assert (by_region[..., 0] > by_region[..., 1]).mean() > 0.95
