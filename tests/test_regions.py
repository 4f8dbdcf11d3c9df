"""Regions of images that are bought apart, on a toy task of four quadrants: the loop keeps the promises it makes for
whole images.
"""

import csv
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import schema
from experiments.estimate import estimate
from experiments.run import run_seed
from experiments.setup import Setup
from experiments.workdir import load
from saal_jax import InputError, max_perturbed_loss
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.acquisitions._scored import scored
from saal_jax.engine.sweep import score_available
from saal_jax.keys import DRAWS
from saal_jax.labels import nothing_known, parts_of, tell
from saal_jax.loop import (
    Examples,
    Problem,
    Protocol,
    ask,
    first_labels,
    fit,
    make_pool,
    make_training,
    seed_key,
    simulate,
)
from saal_jax.models import Model, Outputs, Weights
from saal_jax.optimizers import adam
from saal_jax.pool import any_region, stable_ids
from saal_jax.recipes import OFFERS, RECIPES
from saal_jax.select.first_labels import class_balanced, uniform
from saal_jax.spec import make_acquisition
from saal_jax.tasks import Task
from saal_jax.training import Ingredients

SIZE, CLASSES, REGIONS, VOID = 12, 3, 4, 255


def quadrant(region):
    row, column = 4 * (region // 2), 4 * (region % 2)
    return slice(row, row + 4), slice(column, column + 4)


def with_part(label, region, part):
    label = label.copy()
    label[quadrant(region)] = part
    return label


def pixel_losses(outputs, label):
    known = label != VOID
    return known * optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.where(known, label, 0)), known


def loss_fn(outputs, label):
    losses, known = pixel_losses(outputs, label)
    return losses.sum() / jnp.maximum(known.sum(), 1)


def by_quadrant(pixels):
    """Means `[..., 4]` of pixels `[..., 8, 8]`."""
    return jnp.stack([pixels[(..., *quadrant(region))].mean((-1, -2)) for region in range(REGIONS)], -1)


def loss_by_quadrant(outputs, label):
    return by_quadrant(pixel_losses(outputs, label)[0])


def majority(answers):
    return np.array([np.bincount(part[part != VOID], minlength=CLASSES).argmax() for part in answers], int)


TASK = Task(
    loss_fn,
    loss_fn,
    lambda outputs: outputs.argmax(-1).astype(jnp.uint8),
    lambda key, images, labels: (images, labels),
    lambda outputs, labels: {"right": (outputs.argmax(-1) == labels).sum((1, 2)), "of": (labels != VOID).sum((1, 2))},
    lambda measured: {"pixel_accuracy": 100 * float(measured["right"].sum() / measured["of"].sum())},
    headline="pixel_accuracy",
    empty=lambda size: np.full((size, 8, 8), VOID, np.uint8),
    strata=majority,
    regions=REGIONS,
    part=lambda label, region: label[quadrant(region)],
    with_part=with_part,
)


def convolved(weights, images):
    return jax.lax.conv_general_dilated(
        images, weights.params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


MODEL = Model(
    lambda key, images: Weights({"kernel": jax.random.normal(key, (3, 3, 1, CLASSES)) / 3}, {}),
    lambda weights, images: Outputs(convolved(weights, images), None, None),
    lambda weights, images, mask, key: (Outputs(convolved(weights, images), None, None), {}),
)
RECIPE = RECIPES["supervised"](
    Ingredients(MODEL, adam(learning_rate=0.1), TASK, lambda images: images / 255.0 - 0.5, (8, 8, 1))
)


def examples(size, seed):
    """Squares of one brightness, which is the class."""
    generator = np.random.default_rng(seed)
    labels = np.kron(generator.integers(0, CLASSES, (size, 4, 4)), np.ones((2, 2))).astype(np.uint8)
    return (labels[..., None] * 80 + generator.integers(0, 60, (size, 8, 8, 1))).astype(np.uint8), labels


IMAGES, ANSWERS = examples(SIZE, 0)
NAMES = np.array([f"street_{i}" for i in range(SIZE)])
PROTOCOL = Protocol(5, 4, 2, epochs=3, batch_size=2, pool_subset=None, warm_start=True)


def uncertainty(weights, images):
    probabilities = jax.nn.softmax(RECIPE.apply(weights, images))
    return by_quadrant(1 - probabilities.max(-1))


METHODS = {"random": ACQUISITIONS["random"](), "by regions": scored(uncertainty)}
BY_QUADRANT = TASK._replace(loss_fn=loss_by_quadrant, pooled=lambda losses: losses)
METHODS["saal"] = ACQUISITIONS["saal"](RECIPE.apply, BY_QUADRANT)
every_method = pytest.mark.parametrize("acquire", METHODS.values(), ids=METHODS)


def problem_of(acquire, order=slice(None), **changes):
    pool = make_pool(IMAGES[order], NAMES[order])
    return Problem(TASK, pool, Examples(*examples(7, 1)), RECIPE, acquire, PROTOCOL._replace(**changes))


def oracle_of(answers):
    return lambda indices: parts_of(answers, indices, TASK)


def run(problem, answers=ANSWERS):
    classes = np.zeros(SIZE * REGIONS, int)
    first = first_labels(seed_key(1), uniform, 5, problem.pool, classes, CLASSES, REGIONS)
    cycles = simulate(seed_key(1), problem, first, oracle_of(answers))
    return [cycle._replace(state=jax.tree.map(np.array, cycle.state)) for cycle in cycles]


@every_method
def test_budgets_are_exact_and_what_is_not_bought_stays_void(acquire):
    cycles = run(problem_of(acquire))
    assert [cycle.metrics["num_labelled"] for cycle in cycles] == [5, 9, 13]
    known = np.zeros(SIZE * REGIONS, bool)
    for state, asked, metrics, *_ in cycles:
        assert not known[asked.indices].any()
        known[asked.indices] = True
        np.testing.assert_array_equal(state.labels.known, known)
        pixels = np.kron(known.reshape(SIZE, 2, 2), np.ones((4, 4), bool))
        np.testing.assert_array_equal(state.labels.values, np.where(pixels, ANSWERS, VOID))
        assert 0 <= metrics["pixel_accuracy"] <= 100
    assert cycles[-1].metrics["pixel_accuracy"] > 60  # the brightness is the class


@every_method
def test_the_order_of_the_pool_does_not_matter(acquire):
    def bought(order):
        problem = problem_of(acquire, order)
        asked = [cycle.asked for cycle in run(problem, ANSWERS[order])]
        names = problem.pool.names
        return [[(names[TASK.image_of(i)], TASK.region_of(i)) for i in each.indices.tolist()] for each in asked]

    assert bought(np.arange(SIZE)) == bought(np.random.default_rng(2).permutation(SIZE))


@every_method
def test_a_person_may_stand_between_ask_and_tell(acquire):
    problem, (begun, *cycles) = problem_of(acquire), run(problem_of(acquire))
    start, oracle = begun.asked.indices, oracle_of(ANSWERS)
    state, _ = fit(seed_key(1), problem, tell(nothing_known(TASK, SIZE), start, oracle(start), TASK))
    for cycle in cycles:
        state, asked = pickle.loads(pickle.dumps((state, ask(seed_key(1), problem, state))))
        state, metrics = fit(
            seed_key(1), problem, tell(state.labels, asked.indices, oracle(asked.indices), TASK), state
        )
        chex.assert_trees_all_equal(asked, cycle.asked)
        assert metrics == cycle.metrics
    chex.assert_trees_all_equal(jax.tree.map(np.array, state), cycle.state)


@every_method
def test_nothing_can_be_read_that_was_not_bought(acquire):
    cycles = run(problem_of(acquire))
    pixels = np.kron(cycles[-1].state.labels.known.reshape(SIZE, 2, 2), np.ones((4, 4), bool))
    for cycle, other in zip(cycles, run(problem_of(acquire), np.where(pixels, ANSWERS, 77)), strict=True):
        chex.assert_trees_all_equal((cycle.state, cycle.asked), (other.state, other.asked))


def test_scores_are_those_of_the_regions_and_the_answers_of_the_model_too():
    before, after, _ = run(problem_of(METHODS["by regions"]))
    weights, chosen = before.state.trained.weights, after.asked.indices
    scores = np.where(before.state.labels.known, -1, np.asarray(uncertainty(weights, IMAGES)).ravel())
    np.testing.assert_array_equal(chosen, np.argsort(-scores)[:4])
    np.testing.assert_allclose(after.asked.scores, scores[chosen], rtol=1e-5)
    assert len(set(TASK.image_of(chosen).tolist())) < 4  # of one image several regions, each with its own answer
    labels = np.asarray(RECIPE.apply(weights, IMAGES).argmax(-1))
    expected = [labels[i // 4][quadrant(i % 4)] for i in chosen]
    np.testing.assert_array_equal(after.asked.predicted, expected)
    losses = max_perturbed_loss(
        lambda params, images: RECIPE.apply(weights._replace(params=params), images),
        weights.params,
        IMAGES,
        loss_fn=loss_by_quadrant,
        pseudo_label_fn=TASK.pseudo_label_fn,
    )
    asked = ask(seed_key(1), problem_of(METHODS["saal"]), before.state)
    np.testing.assert_allclose(asked.scores, np.ravel(losses)[asked.indices], rtol=1e-5)


def test_a_candidate_is_numbered_by_the_name_of_its_image_and_its_region():
    seen = []

    def spy(query):
        seen.append(query)
        return METHODS["random"](query)

    run(problem_of(spy, pool_subset=7))
    expected = [f"{name}#{region}" for name in NAMES for region in range(REGIONS)]
    for query in seen:
        np.testing.assert_array_equal(query.ids, stable_ids(expected))
        assert query.available.sum() == 7 and not (query.available & query.labelled).any()


def test_trains_on_the_images_of_which_a_region_is_known():
    problem = problem_of(METHODS["random"])
    labels = tell(nothing_known(TASK, SIZE), [0, 1, 9], parts_of(ANSWERS, [0, 1, 9], TASK), TASK)
    more = tell(labels, [11, 4], parts_of(ANSWERS, [11, 4], TASK), TASK)
    training = make_training(problem, more, labels.known, 1)
    assert np.flatnonzero(training.labelled).tolist() == [0, 1, 2]
    assert np.flatnonzero(training.new).tolist() == [1, 2]
    assert training.capacity == SIZE and problem.protocol.epochs_of(3) == 3
    np.testing.assert_array_equal(training.labels, more.values)
    state, metrics = fit(seed_key(1), problem, more)
    assert metrics["num_labelled"] == 5
    other = problem._replace(pool=problem.pool._replace(images=problem.pool.images.at[3:].set(0)))
    chex.assert_trees_all_equal(fit(seed_key(1), other, more)[0].trained, state.trained)  # looks at no other image


def test_balanced_first_labels_look_at_the_class_of_each_region():
    classes = majority(parts_of(ANSWERS, np.arange(SIZE * REGIONS), TASK))
    pool = make_pool(IMAGES, NAMES)
    asked = first_labels(seed_key(3), class_balanced, 6, pool, classes, CLASSES, REGIONS)
    assert np.bincount(classes[asked.indices]).tolist() == [2, 2, 2]


def test_a_region_that_is_bought_again_replaces_itself_alone():
    once = tell(nothing_known(TASK, SIZE), [0, 1], np.zeros((2, 4, 4), np.uint8), TASK)
    again = tell(once, [1], np.ones((1, 4, 4), np.uint8), TASK)
    assert once.values[0, :4].max() == 0  # the older labels are as they were
    np.testing.assert_array_equal(again.values[0, 0], [0, 0, 0, 0, 1, 1, 1, 1])
    assert (again.values[0, 4:] == VOID).all() and (again.values[1:] == VOID).all()
    assert parts_of(ANSWERS, [], TASK).shape == (0, 4, 4)
    unchanged = tell(again, [], np.zeros((0, 4, 4), np.uint8), TASK)
    chex.assert_trees_all_equal(unchanged, again)


@pytest.mark.parametrize(
    ("indices", "answers", "task", "message"),
    [
        ([0, 1], np.zeros((2, 8, 8)), TASK, r"float64\[2, 8, 8\]: pass \[2, 4, 4\], one for each index"),
        ([0, 1], np.zeros((1, 4, 4)), TASK, r"float64\[1, 4, 4\]: pass \[2, 4, 4\]"),
        ([SIZE * REGIONS], np.zeros((1, 4, 4)), TASK, "distinct positions in a pool of 48"),
        ([0], np.zeros((1, 8, 8)), None, "48 candidates are not 1 of each of 12 images: pass the task"),
    ],
)
def test_answers_that_do_not_fit(indices, answers, task, message):
    with pytest.raises(InputError, match=message):
        tell(nothing_known(TASK, SIZE), indices, answers, task)


@pytest.mark.parametrize("name", sorted(ACQUISITIONS.keys() - {"random"}))
def test_an_acquisition_of_whole_images_is_refused_by_name(name):
    """Whatever it is that it would look at: an image's features, or a score that is not one for each region."""
    offers = dict.fromkeys(OFFERS, lambda weights, images, *rest: jnp.zeros(len(images))) | RECIPE.offers
    with pytest.raises(InputError, match=f"acquisition {name}") as error:
        problem = problem_of(make_acquisition({"name": name}, offers, "toy"))
        labels = tell(nothing_known(TASK, SIZE), [0], ANSWERS[:1, :4, :4], TASK)
        ask(seed_key(1), problem, fit(seed_key(1), problem, labels)[0])
    assert len(str(error.value)) < 250


def test_what_is_swept_over_regions():
    images, names = np.arange(6, dtype=np.float32).reshape(3, 2), np.array(["a", "b", "c"])
    available, seen = np.array([True, False, False, False, False, True]), []
    scores = score_available(lambda scale, chunk: scale * chunk, 2.0, images, available, names, progress=seen.append)
    np.testing.assert_array_equal(scores, [0, np.nan, np.nan, np.nan, np.nan, 10])
    assert seen[-1] == 2  # images
    nothing = score_available(lambda scale, chunk: scale * chunk, 2.0, images, available & False, names)
    assert nothing.shape == (6,) and np.isnan(nothing).all()
    wrong = np.array([[0, np.nan], [np.nan, 1], [2, np.inf]], np.float32)  # where not available nobody looks
    with pytest.raises(InputError, match="1 of 2 scores are not finite, of examples c#1:"):
        score_available(lambda scale, chunk: chunk, 2.0, wrong, available, names)
    with pytest.raises(
        InputError, match=r"2 regions of an image are bought apart: a score must be \[B, 2\], not \[B\]"
    ):
        score_available(lambda scale, chunk: chunk.sum(1), 2.0, images, available, names)
    whole = score_available(lambda scale, chunk: chunk.sum(1), 2.0, images, any_region(available, 3), names)
    np.testing.assert_array_equal(whole, [1, np.nan, 9])


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_of_regions_has_a_column_for_them_and_continues_to_the_same_bytes(tmp_path):
    problem = problem_of(METHODS["by regions"])
    classes = majority(parts_of(ANSWERS, np.arange(SIZE * REGIONS), TASK))

    record = {"pool_size": SIZE * REGIONS, "class_names": ["a", "b", "c"], "data": "toy", "draws": DRAWS}
    record["class_counts"] = np.bincount(classes, minlength=CLASSES).tolist()
    setup = Setup(problem, ANSWERS, np.arange(SIZE) * 2, ("a", "b", "c"), class_balanced, record)
    assert estimate(setup, {1: 0}).labels == 13
    config = schema.override(schema.load("digits_saal"), ["--config.cycles=2", "--config.seeds=1"])
    run_seed(1, config, setup, tmp_path / "whole", {}, None)
    once = schema.override(config, ["--config.cycles=1"])
    shorter = setup._replace(problem=problem._replace(protocol=PROTOCOL._replace(cycles=1)))
    run_seed(1, once, shorter, tmp_path / "parts", {}, None)
    run_seed(1, config, setup, tmp_path / "parts", {}, load(tmp_path / "parts", config)[1])
    for name in ("metrics", "selections", "initial_labels", "class_counts", "digests"):
        table = f"{name}.csv"
        assert (tmp_path / "whole" / table).read_bytes() == (tmp_path / "parts" / table).read_bytes(), table
    chosen, first = rows(tmp_path / "whole" / "selections.csv"), rows(tmp_path / "whole" / "initial_labels.csv")
    assert [len(first), len(chosen)] == [5, 8]
    assert list(first[0]) == ["seed", "index", "example_id", "region", "label"]
    bought = [(int(row["example_id"].removeprefix("street_")), int(row["region"])) for row in first + chosen]
    assert len(set(bought)) == 13
    assert [int(row["label"]) for row in first + chosen] == [classes[image * 4 + region] for image, region in bought]
    assert [int(row["index"]) for row in first + chosen] == [2 * image for image, _ in bought]
    *_, labelled, left = rows(tmp_path / "whole" / "class_counts.csv")
    assert sum(int(labelled[f"class:{name}"]) for name in "abc") == 13
    assert sum(int(left[f"class:{name}"]) for name in "abc") == 48 - 13


def test_labels_without_classes_have_empty_cells_and_no_counts(tmp_path):
    task = TASK._replace(strata=None)
    problem = problem_of(METHODS["random"])._replace(task=task)

    record = {
        "pool_size": SIZE * REGIONS,
        "class_names": ["a", "b", "c"],
        "data": "toy",
        "draws": DRAWS,
        "class_counts": [],
    }
    setup = Setup(problem, ANSWERS, np.arange(SIZE), ("a", "b", "c"), uniform, record)
    config = schema.override(schema.load("digits_saal"), ["--config.cycles=2", "--config.seeds=1"])
    run_seed(1, config, setup, tmp_path, {}, None)
    assert {(row["label"], row["pseudo_label"], row["score"]) for row in rows(tmp_path / "selections.csv")} == {
        ("", "", "")
    }
    assert rows(tmp_path / "class_counts.csv") == []
