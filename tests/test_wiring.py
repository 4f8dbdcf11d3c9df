"""Whether a run does what its config says: what is on disk, computed again from the data and the weights there."""

import csv
import shutil
from functools import partial

import jax
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from experiments import schema
from experiments.estimate import estimate
from experiments.run import main
from experiments.setup import build
from saal_jax import checkpoint, load_model, max_perturbed_loss
from saal_jax.data import load
from saal_jax.optimizers import OPTIMIZERS

pytestmark = pytest.mark.usefixtures("recipes_made_once")

DATASET, SEEDS = "digits[:10%]", (1, 2)
each_seed = pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.slow), 2])  # 2 is what 1 might hide
SMALL = [f"--config.dataset={DATASET}", "--config.model.width=2", "--config.cycles=1", "--config.seeds=1,2"]
FEW_TESTS = "test[:8]"  # not of every class
DESCENT = ["--config.optimizer.name=sgd", "--config.warm_start=false"]
STILL = [*DESCENT, "--config.optimizer.learning_rate=1e-30"]  # the weights stay those that a seed starts from
RATE, DECAY = 0.1, 0.5
EPOCHS, BATCH = 20, 10
TAUGHT = ["--config.warm_start=true", f"--config.epochs={EPOCHS}", f"--config.batch_size={BATCH}"]
TAUGHT += ["--config.recipe.name=snapshots", "--config.recipe.count=2", "--config.recipe.span=1"]


def run(factory, *arguments):
    workdir = factory.mktemp("runs") / "run"
    assert (
        main(["--config=digits_saal", "--config.acquisition.name=random", *SMALL, *arguments, f"--workdir={workdir}"])
        == 0
    )
    return workdir


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    """SAAL at true labels; a cycle is one step, on all that is labelled. There are few test images."""
    few = f"--config.test_split={FEW_TESTS}"
    rates = [f"--config.optimizer.learning_rate={RATE}", f"--config.optimizer.weight_decay={DECAY}"]
    length = ["--config.epochs=1", "--config.batch_size=1000"]
    saal = ["--config.acquisition.name=saal", "--config.acquisition.mode=max", "--config.acquisition.labels=true"]
    return run(tmp_path_factory, few, *DESCENT, *rates, *length, *saal)


@pytest.fixture(scope="module")
def before_the_query(one_step, tmp_path_factory):
    """The same run when it had cycle 0 alone."""
    workdir = shutil.copytree(one_step, tmp_path_factory.mktemp("runs") / "run")
    for seed in SEEDS:
        shutil.rmtree(workdir / "checkpoints" / f"seed_{seed}" / "1")
    return workdir


@pytest.fixture(scope="module")
def image_by_image(tmp_path_factory):
    """Two networks that stay as they are, and a momentum that is halved by each step, of one image each."""
    members = ["--config.recipe.name=ensemble", "--config.recipe.members=2", "--config.optimizer.momentum=0.5"]
    length = ["--config.epochs=2", "--config.batch_size=1", "--config.initial_labels=4", "--config.query_size=3"]
    return run(tmp_path_factory, *STILL, *members, *length)


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    """A network that stays as it is, trained in cycle 0 on one image alone, augmented."""
    labels = ["--config.initial_labels=1", "--config.query_size=1"]
    return run(tmp_path_factory, *STILL, *labels, "--config.epochs=2", "--config.augmentation=crop_and_flip")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A network and its teacher: the mean of the network's weights after one epoch and after the last."""
    return run(tmp_path_factory, *TAUGHT)


@pytest.fixture(scope="module")
def data():
    return load(DATASET)


def rows(workdir, table, seed):
    with open(workdir / f"{table}.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["seed"] == str(seed)]


def column(table, name, kind=float):
    return np.array([kind(row[name]) for row in table])


def bought(workdir, seed, cycle):
    """The images labelled up to a cycle, as positions in the data set."""
    queried = [row for row in rows(workdir, "selections", seed) if int(row["cycle"]) <= cycle]
    return column(rows(workdir, "initial_labels", seed) + queried, "index", int)


def newest(workdir, seed):
    """What training left in the newest checkpoint, as nested dicts of arrays."""
    _, tree, _ = checkpoint.load_newest(workdir / "checkpoints" / f"seed_{seed}")
    return tree["train"]


def momenta(opt_state):
    """Every momentum in an optimizer's state, however deep."""
    if "trace" in opt_state:
        return [opt_state["trace"]]
    return [momentum for part in opt_state.values() for momentum in momenta(part)]


def before_one_step(workdir, seed):
    """The weights w that one step, to w - RATE v, began with; and its v."""
    state = newest(workdir, seed)
    (momentum,) = momenta(state["opt_state"])
    return jax.tree.map(lambda w, v: w + np.float32(RATE) * v, state["weights"]["params"], momentum), momentum


@partial(jax.jit, static_argnums=0)
def losses(apply_fn, params, images, labels):
    """The cross-entropy of each image, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(apply_fn(params, images), labels)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0], np.float64)


@each_seed
def test_a_cold_start_forgets_the_weights_of_the_cycle_before(one_step, before_the_query, seed):
    first, _ = before_one_step(before_the_query, seed)
    second, _ = before_one_step(one_step, seed)
    np.testing.assert_allclose(flat(second), flat(first), atol=1e-6)
    assert np.abs(flat(newest(before_the_query, seed)["weights"]["params"]) - flat(first)).max() > 1e-3


def test_every_seed_starts_from_weights_of_its_own(image_by_image):
    one, other = (flat(newest(image_by_image, seed)["weights"]["params"]) for seed in SEEDS)
    assert (one != other)[np.abs(one) > 1e-20].all()  # biases of convolutions are zero


@each_seed
def test_a_step_is_taken_on_the_labelled_images_normalised_by_the_pool(one_step, data, seed):
    _, _, record = checkpoint.load_newest(one_step / "checkpoints" / f"seed_{seed}")
    pixels = data.train.images / 255
    mean = pixels.mean((0, 1, 2))
    np.testing.assert_allclose(record["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(record["std"], pixels.std((0, 1, 2)), rtol=1e-6)

    apply_fn, _ = load_model(one_step, seed)
    labelled = bought(one_step, seed, cycle=1)
    images, labels = data.train.images[labelled], data.train.labels[labelled]
    start, momentum = before_one_step(one_step, seed)
    grey = np.full((1, 8, 8, 1), 255 * mean, np.float32)  # to the network 0, and no convolution has a bias yet
    np.testing.assert_allclose(apply_fn(start, grey)[0], start["Linear_0"]["Dense_0"]["bias"], atol=1e-5)
    mean_loss = lambda params: losses(apply_fn, params, images, labels).mean()  # noqa: E731
    loss, gradient = jax.value_and_grad(mean_loss)(start)
    assert float(rows(one_step, "metrics", seed)[1]["train_loss"]) == pytest.approx(float(loss), abs=1e-5)
    np.testing.assert_allclose(flat(momentum), flat(gradient) + DECAY * flat(start), atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "sam", "adaptive_sam"])
def test_weight_decay_joins_the_gradient_before_the_momentum(name):
    """torch.optim.SGD's documentation: g += decay w; v = momentum v + g; w -= rate v."""
    transformation = OPTIMIZERS[name](learning_rate=0.1, momentum=0.9, weight_decay=0.5).transformation
    expected, velocity = np.array([1.0, -2.0]), 0.0
    weights = np.float32(expected)
    state = transformation.init(weights)
    for gradient in np.array([[0.3, 0.1], [-0.2, 0.4], [0.0, 0.0]]):
        velocity = 0.9 * velocity + gradient + 0.5 * expected
        expected = expected - 0.1 * velocity
        updates, state = transformation.update(np.float32(gradient), state, weights)
        weights = optax.apply_updates(weights, updates)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


@each_seed
def test_each_epoch_and_each_member_has_an_order_of_its_own(image_by_image, data, seed):
    """Each step halves what is in the momentum: an image's share of it, as a binary number, tells its steps."""
    apply_fn, _ = load_model(image_by_image, seed)
    labelled = bought(image_by_image, seed, cycle=1)
    steps, state = 2 * len(labelled), newest(image_by_image, seed)
    images, labels = data.train.images[labelled], data.train.labels[labelled]
    gradients = jax.jit(jax.jacrev(lambda params: losses(apply_fn, (params, params), images, labels)))
    orders = []
    for params, momentum in zip(state["weights"]["params"].values(), momenta(state["opt_state"]), strict=True):
        by_image = np.concatenate([leaf.reshape(len(labelled), -1) for leaf in jax.tree.leaves(gradients(params))], 1)
        shares = np.linalg.lstsq(np.float64(by_image.T), flat(momentum))[0] * 2 ** (steps - 1)
        np.testing.assert_allclose(shares, shares.round(), atol=0.1)
        taken = shares.round().astype(int)[:, None] >> np.arange(steps) & 1
        assert (taken.sum(0) == 1).all()  # one image a step
        orders += taken.argmax(0).reshape(2, -1).tolist()
    assert [sorted(order) for order in orders] == [list(range(len(labelled)))] * 4  # two epochs of two members
    assert len(set(map(tuple, orders))) == 4


@each_seed
def test_each_epoch_augments_anew(augmented, data, seed):
    """The mean loss of two epochs on one image is that of two of its 162 views, not twice of the same."""
    apply_fn, params = load_model(augmented, seed)
    (image,) = bought(augmented, seed, cycle=0)
    padded = np.pad(data.train.images[image], ((4, 4), (4, 4), (0, 0)))
    crops = np.lib.stride_tricks.sliding_window_view(padded, (8, 8, 1)).reshape(-1, 8, 8, 1)
    views = np.concatenate([crops, crops[:, :, ::-1]])
    of_views = np.asarray(losses(apply_fn, params, views, np.full(len(views), data.train.labels[image])))
    found = float(rows(augmented, "metrics", seed)[0]["train_loss"])
    means = (of_views[:, None] + of_views) / 2
    assert np.abs(means - found).min() < 2e-6
    assert np.abs(of_views - found).min() > 2e-6


@each_seed
def test_selections_have_the_scores_of_their_own_images_at_true_labels(one_step, before_the_query, data, seed):
    apply_fn, params = load_model(before_the_query, seed)
    images, labels, ids = data.train
    scores = np.array(max_perturbed_loss(apply_fn, params, images, labels, rho=0.05, adaptive=True))
    table = rows(one_step, "selections", seed)
    chosen = column(table, "index", int)
    np.testing.assert_allclose(column(table, "score"), scores[chosen], rtol=1e-4)
    assert (column(table, "example_id", str) == ids[chosen]).all()
    assert (column(table, "label", int) == labels[chosen]).all()
    assert (column(table, "pseudo_label", int) == apply_fn(params, images[chosen]).argmax(1)).all()
    scores[bought(one_step, seed, cycle=0)] = -np.inf
    assert set(chosen) == set(np.argsort(scores)[-len(chosen) :])


@each_seed
def test_accuracies_are_those_of_the_network_and_of_its_teacher(taught, data, seed):
    apply_fn, params = load_model(taught, seed)
    images, labels, _ = data.test
    teacher = newest(taught, seed)["weights"]["teacher"]["params"]
    correct, of_teacher = (apply_fn(weights, images).argmax(1) == labels for weights in (params, teacher))
    last = rows(taught, "metrics", seed)[-1]
    assert float(last["test_accuracy"]) == pytest.approx(100 * correct.mean())
    assert float(last["teacher_accuracy"]) == pytest.approx(100 * of_teacher.mean())
    assert correct.mean() != of_teacher.mean()


@each_seed
def test_classes_without_a_test_image_are_left_out_of_the_balanced_accuracy(one_step, data, seed):
    apply_fn, params = load_model(one_step, seed)
    images, labels, _ = load(DATASET, test_split=FEW_TESTS).test
    correct, present = apply_fn(params, images).argmax(1) == labels, np.unique(labels)
    assert len(present) < len(data.class_names)
    by_class = np.full(len(data.class_names), np.nan)
    by_class[present] = [100 * correct[labels == label].mean() for label in present]
    last = rows(one_step, "class_accuracies", seed)[-1]
    found = [float(last[f"class:{name}"]) for name in data.class_names]
    np.testing.assert_allclose(found, by_class, atol=1e-5)
    for table in ("metrics", "class_accuracies"):
        balanced = float(rows(one_step, table, seed)[-1]["balanced_accuracy"])
        assert balanced == pytest.approx(by_class[present].mean(), abs=1e-5)


@pytest.fixture(scope="module")
def cost():
    """The estimate of the second seed of `taught`, whose programs the first one has compiled."""
    config = schema.override(schema.load("digits_saal"), ["--config.acquisition.name=random", *SMALL, *TAUGHT])
    return estimate(build(config, None), {2: 0})


def test_the_estimate_is_what_the_run_then_took(taught, data, cost):
    first, last = column(rows(taught, "metrics", 2), "num_labelled", int)
    assert cost.labels == last
    assert cost.steps == newest(taught, 2)["opt_state"]["0"]["count"]  # Adam's, carried over the cycles
    assert cost.scored == len(data.train.ids) - first
    assert cost.tested == 2 * len(data.test.ids)
    checkpoints = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(newest(taught, 2)))
    assert checkpoints <= cost.disk < 30 * checkpoints
    assert 2**27 < cost.memory < 2**33  # no process with JAX takes less, nor with so small a network more


@pytest.mark.slow  # by the clock
def test_the_estimated_seconds_are_those_that_the_run_then_took(taught, cost):
    timings = rows(taught, "timings", 2)
    seconds = sum(column(timings, f"{phase}_seconds").sum() for phase in ("query", "train", "test"))
    assert seconds / 30 < cost.seconds < 30 * seconds
