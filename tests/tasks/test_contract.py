"""What every task must do, whatever its labels are: a new file of saal_jax/tasks is tested here by itself."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import max_perturbed_loss
from saal_jax.errors import InputError
from saal_jax.labels import nothing_known, parts_of, tell
from saal_jax.loop import Examples, Problem, Protocol, State, ask, first_labels, make_pool, seed_key, simulate
from saal_jax.models import MODELS
from saal_jax.moves import MOVES
from saal_jax.preprocessing import AUGMENTATIONS
from saal_jax.scores import uncertainty
from saal_jax.select.first_labels import uniform
from saal_jax.source import make_source
from saal_jax.spec import make_acquisition, make_recipe
from saal_jax.tasks import HEADLINES, TASKS
from saal_jax.training import TrainState

SHAPE, CLASSES, SIZE = (8, 12, 3), 3, 6
OPTIONS = {name: {"name": name} for name in TASKS} | {"regions": {"name": "segmentation", "rows": 2, "columns": 3}}
OPTIONS["detection"] |= {"max_boxes": 5, "threshold": 0.1}
# Where regions are bought everything happens that happens to whole images.
WHOLE = pytest.param("segmentation", marks=pytest.mark.slow)
every_task = pytest.mark.parametrize("name", [WHOLE if name == "segmentation" else name for name in OPTIONS])


@functools.cache
def recipe_of(name, augmentation="none"):
    """With a network that fits."""
    for model in reversed(MODELS):  # of those of classification the smallest is the last
        depth = {"depth": 2} if "depth" in inspect.signature(MODELS[model]).parameters else {}
        try:
            return make_recipe(
                {"name": "supervised"},
                {"name": model, "width": 2, **depth},
                CLASSES,
                SHAPE,
                (0.5,) * 3,
                (0.3,) * 3,
                task=OPTIONS[name],
                optimizer={"name": "adam", "learning_rate": 1e-2},
                augmentation={"name": augmentation},
            )
        except InputError as error:
            refusal = error
    raise refusal


@functools.cache
def setting(name):
    """A task, stored images, the outputs of a network for them, and labels: its own answers, where these differ."""
    recipe = recipe_of(name)
    task = recipe.offers["task"]
    images = np.random.default_rng(0).integers(0, 256, (SIZE, *SHAPE)).astype(np.uint8)
    weights = recipe.init(jax.random.key(0)).weights
    # Larger weights are surer: an untrained network would find no box.
    weights = weights._replace(params=jax.tree.map(lambda leaf: 3 * leaf, weights.params))
    outputs = recipe.apply(weights, jnp.asarray(images))
    answers = jax.device_get(jax.vmap(task.pseudo_label_fn)(outputs))
    if task.classes_of == "image":  # of which an untrained network knows but one
        answers = np.arange(SIZE, dtype=np.int32) % CLASSES
    return recipe, task, weights, images, outputs, answers


@every_task
def test_unknown_labels_and_own_answers_are_of_one_kind(name):
    _, task, _, _, _, answers = setting(name)
    unknown = task.empty(SIZE)
    chex.assert_trees_all_equal_shapes_and_dtypes(unknown, jax.tree.map(np.asarray, answers))
    names = np.arange(SIZE).astype(str)
    prepared = task.prepare(answers, names) if task.prepare else answers
    chex.assert_trees_all_equal_shapes_and_dtypes(prepared, unknown)
    again = task.prepare(prepared, names) if task.prepare else prepared
    chex.assert_trees_all_equal(again, prepared)


@every_task
def test_losses_are_finite_and_their_two_forms_agree(name):
    _, task, _, _, outputs, answers = setting(name)
    for labels in (answers, jax.tree.map(np.roll, answers, jax.tree.map(lambda _: 1, answers))):
        losses = jax.vmap(task.loss_fn)(outputs, labels)
        np.testing.assert_allclose(losses, jax.vmap(task.precise_loss_fn)(outputs, labels), rtol=1e-5, atol=1e-6)
        assert np.isfinite(losses).all() and (np.asarray(losses) >= 0).all()
        np.testing.assert_allclose(task.losses(outputs, labels), losses.reshape(SIZE, -1).mean(1), rtol=1e-6)
        gradients = jax.grad(lambda outputs, labels=labels: task.losses(outputs, labels).sum())(outputs)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    if task.classes_of != "image":  # of classes, nothing known is no class
        assert np.isfinite(task.losses(outputs, task.empty(SIZE))).all()


@every_task
def test_what_is_measured_of_an_example_depends_on_it_alone(name):
    _, task, _, _, outputs, answers = setting(name)
    measured = jax.device_get(task.measure(outputs, answers))
    order = np.random.default_rng(1).permutation(SIZE)
    for rows in (order, order[:1]):
        part = task.measure(*jax.tree.map(lambda array: array[rows], (outputs, answers)))  # noqa: B023
        chex.assert_trees_all_close(jax.device_get(part), jax.tree.map(lambda array: array[rows], measured), rtol=1e-5)  # noqa: B023
    summary = task.summarize(measured)
    assert task.headline == HEADLINES[OPTIONS[name]["name"]] and 0 <= summary[task.headline] <= 100
    reordered = task.summarize(jax.tree.map(lambda array: array[order], measured))
    for metric, value in summary.items():
        np.testing.assert_allclose(reordered[metric], value, rtol=1e-6)
        assert np.shape(value) in ((), (CLASSES,))


@every_task
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_an_augmentation_moves_images_and_labels_alike(name, augmentation):
    task = recipe_of(name, augmentation).offers["task"]
    _, _, _, images, _, answers = setting(name)
    augment = jax.jit(task.augment)
    moved, labels = augment(jax.random.key(3), images, answers)
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.device_get(labels), jax.tree.map(np.asarray, answers))
    assert moved.shape == images.shape and moved.dtype == np.uint8
    np.testing.assert_array_equal(moved, AUGMENTATIONS[augmentation](jax.random.key(3), images))
    chex.assert_trees_all_equal(augment(jax.random.key(3), images, answers), (moved, labels))
    if augmentation == "none":
        np.testing.assert_array_equal(moved, images)
        chex.assert_trees_all_close(labels, answers, atol=1e-6)


@every_task
def test_all_parts_make_the_label(name):
    _, task, _, _, _, answers = setting(name)
    everything = np.random.default_rng(2).permutation(SIZE * task.regions)
    labels = tell(nothing_known(task, SIZE), everything, parts_of(answers, everything, task), task)
    chex.assert_trees_all_equal(labels.values, jax.tree.map(np.asarray, answers))
    costs = task.costs(labels.known, labels.values) if task.costs else {}
    nothing = nothing_known(task, SIZE)
    assert all(count >= 0 for count in costs.values())
    assert not task.costs or set(task.costs(nothing.known, nothing.values).values()) == {0}


@every_task
@pytest.mark.parametrize(
    "fun",
    [
        uncertainty.margin,
        *(pytest.param(fun, marks=pytest.mark.slow) for fun in (uncertainty.entropy, uncertainty.least_confidence)),
    ],
)
def test_an_uncertainty_is_one_number_for_each_candidate(name, fun):
    _, task, _, _, outputs, _ = setting(name)
    expected = (SIZE,) if task.regions == 1 else (SIZE, task.regions)
    for aggregation in ("sum", "max", "mean"):
        values = task.uncertainty(fun, outputs, aggregation)
        assert values.shape == expected and np.isfinite(values).all()
        alone = task.uncertainty(fun, jax.tree.map(lambda leaf: leaf[2:3], outputs), aggregation)
        np.testing.assert_allclose(alone[0], values[2], rtol=1e-5, atol=1e-6)


@every_task
def test_the_mean_of_equal_networks_is_each_of_them(name):
    _, task, _, _, outputs, answers = setting(name)
    mean = task.mean_outputs(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf, leaf]), outputs))
    assert jax.tree.structure(jax.vmap(task.pseudo_label_fn)(mean)) == jax.tree.structure(answers)
    np.testing.assert_allclose(task.losses(mean, answers), task.losses(outputs, answers), rtol=1e-4, atol=1e-5)


@every_task
def test_the_score_is_the_loss_after_a_step_of_plain_gradient_ascent(name):
    recipe, task, weights, images, outputs, _ = setting(name)

    def apply_fn(params, images):
        return recipe.apply(weights._replace(params=params), images)

    @jax.jit
    def slowly(params, image, label):
        def mean_loss(params):
            return task.losses(apply_fn(params, image[None]), jax.tree.map(lambda leaf: leaf[None], label))[0]

        gradients = jax.grad(mean_loss)(params)
        norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradients)))
        stepped = jax.tree.map(lambda leaf, gradient: leaf + 0.05 * gradient / (norm + 1e-12), params, gradients)
        outputs = jax.tree.map(lambda leaf: leaf[0], apply_fn(stepped, image[None]))
        return task.loss_fn(outputs, label)

    at = {"loss_fn": task.loss_fn, "pseudo_label_fn": task.pseudo_label_fn, "rho": 0.05, "adaptive": False}
    scores = max_perturbed_loss(apply_fn, weights.params, images, **at)
    for row in range(3):
        label = jax.device_get(task.pseudo_label_fn(jax.tree.map(lambda leaf: leaf[row], outputs)))  # noqa: B023
        expected = slowly(weights.params, images[row], label)
        np.testing.assert_allclose(scores[row], expected, rtol=2e-4, atol=1e-6)
    assert task.by_candidate(scores).shape == ((SIZE,) if task.regions == 1 else (SIZE, task.regions))


@every_task
@pytest.mark.parametrize("method", ["saal", pytest.param("random", marks=pytest.mark.slow)])
def test_a_loop_goes_round_and_buys_what_it_may(name, method):
    recipe, task, _, images, _, answers = setting(name)
    acquire = make_acquisition({"name": method}, recipe.offers, "supervised")
    pool, candidates = make_pool(images, np.arange(SIZE).astype(str)), SIZE * task.regions
    protocol = Protocol(2, 3, 1, epochs=None, batch_size=4, pool_subset=None, warm_start=False, steps=2)
    problem = Problem(task, pool, Examples(images, answers), recipe, acquire, protocol)
    first = first_labels(seed_key(1), uniform, 2, pool, np.zeros(candidates, int), CLASSES, task.regions)
    cycles = list(simulate(seed_key(1), problem, first, lambda indices: parts_of(answers, indices, task)))
    assert [cycle.metrics["num_labelled"] for cycle in cycles] == [2, 5]
    assert np.isfinite(cycles[-1].metrics["train_loss"])
    expected = parts_of(answers, cycles[-1].asked.indices, task)
    chex.assert_trees_all_equal_shapes(cycles[-1].asked.predicted, expected)


@every_task
def test_a_source_is_trained_on_and_measured(name):
    """With nothing bought yet there is the source alone; its labels decide what is learned."""
    recipe, task, _, images, _, answers = setting(name)
    acquire = make_acquisition({"name": "random"}, recipe.offers, "supervised")
    names = np.arange(SIZE).astype(str)
    protocol = Protocol(0, 2, 1, epochs=None, batch_size=4, pool_subset=None, warm_start=True, steps=3)
    pool, test = make_pool(images[:3], names[:3]), Examples(images, answers)
    first = first_labels(seed_key(1), uniform, 0, pool, np.zeros(3 * task.regions, int), CLASSES, task.regions)

    def run(labels):
        source = make_source(pool, images, names, labels, test)
        problem = Problem(task, pool, test, recipe, acquire, protocol, source)
        cycles = simulate(seed_key(1), problem, first, lambda indices: parts_of(answers, indices, task))
        return [cycle._replace(state=jax.tree.map(np.array, cycle.state)) for cycle in cycles]

    ours, others = run(answers), run(jax.tree.map(lambda leaf: np.roll(leaf, 1, 0), answers))
    assert [cycle.metrics["num_labelled"] for cycle in ours] == [0, 2]
    headline = "source_" + task.headline.removeprefix("test_")
    assert ours[0].metrics[headline] == ours[0].metrics[task.headline]  # the same images
    leaves = [jax.tree.leaves(cycles[0].state.trained.weights.params) for cycles in (ours, others)]
    assert any((own != other).any() for own, other in zip(*leaves, strict=True))


def test_losses_at_true_labels_do_not_depend_on_what_was_bought():
    """Of an image whose other regions are known already."""
    recipe, task, weights, images, _, answers = setting("regions")
    acquire = make_acquisition({"name": "saal", "labels": "true", "rho": 0.0}, recipe.offers, "supervised")
    pool, oracle = make_pool(images, np.arange(SIZE).astype(str)), lambda indices: parts_of(answers, indices, task)
    protocol = Protocol(1, 1, 1, epochs=1, batch_size=4, pool_subset=None, warm_start=False)
    problem = Problem(task, pool, Examples(images, answers), recipe, acquire, protocol)
    scores = []
    for bought in ([], range(1, task.regions)):
        labels = tell(nothing_known(task, SIZE), np.array(bought, int), oracle(np.array(bought, int)), task)
        query_state = State(0, TrainState(weights, ()), labels)
        available = np.flatnonzero(~labels.known)
        everything = ask(
            seed_key(1), problem._replace(protocol=protocol._replace(query_size=len(available))), query_state, oracle
        )
        scores.append(everything.scores[list(everything.indices).index(0)])
    np.testing.assert_allclose(*scores, rtol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is_and_what_it_takes(name):
    parameters = inspect.signature(TASKS[name]).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY] == [
        "num_classes",
        "augmentation",
        "moves",
        "image_shape",
    ]
    assert inspect.getdoc(TASKS[name]) and MOVES.keys() == AUGMENTATIONS.keys()


@pytest.mark.parametrize("name", TASKS)
def test_a_network_that_does_not_fit_is_refused_by_name(name):
    refused = 0
    for model in MODELS:
        try:
            make_recipe(
                {"name": "supervised"}, {"name": model, "width": 2}, 3, SHAPE, (0.5,), (0.5,), task={"name": name}
            )
        except InputError as error:
            assert str(error).startswith(f"model {model} does not fit task {name}: "), error
            refused += 1
    assert 0 < refused < len(MODELS)
