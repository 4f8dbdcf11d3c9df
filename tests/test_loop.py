"""The loop: exact counts, disjoint sets, the same start for every method, and nothing learnt from the test images."""

import pickle
from functools import partial

import chex
import jax
import numpy as np
import pytest

from saal_jax import InputError
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.engine.sweep import score_available, score_pool
from saal_jax.keys import named
from saal_jax.labels import nothing_known, tell
from saal_jax.loop import Examples, Problem, Protocol, State, ask, first_labels, fit, make_pool, seed_key, simulate
from saal_jax.optimizers import adam, sgd
from saal_jax.pool import Query
from saal_jax.preprocessing import unchanged
from saal_jax.select.first_labels import class_balanced
from saal_jax.tasks.classification import classification
from tests.toys import ADAM, IMAGES, LABELS, SIZE, recipe

PROTOCOL = Protocol(6, 4, 3, epochs=2, batch_size=4, pool_subset=None, warm_start=False)


POOL, ANSWERS = make_pool(IMAGES, np.array([f"train_{i}" for i in range(SIZE)])), LABELS
TEST, OTHER_TEST = (Examples(IMAGES[:15] // divisor, LABELS[:15]) for divisor in (2, 3))
TASK = classification(3)


def supervised(optimizer, augment=unchanged):
    return recipe(optimizer=optimizer, augment=augment)


RECIPE = supervised(ADAM)
saal = partial(ACQUISITIONS["saal"], RECIPE.apply, TASK)
SAAL = saal()
METHODS = {
    "random": ACQUISITIONS["random"](),
    "saal": SAAL,
    **{f"saal, {mode}": saal(mode=mode) for mode in ("max", "diff", "diff_diversity")},
    **{f"saal, {labels}": saal(labels=labels) for labels in ("true", "inverse_pseudo")},
}


def problem_of(acquire=SAAL, protocol=PROTOCOL, recipe=RECIPE, test=TEST):
    return Problem(TASK, POOL, test, recipe, acquire, protocol)


def first(seed, protocol=PROTOCOL):
    return first_labels(seed_key(seed), class_balanced, protocol.initial_labels, POOL, ANSWERS, 3)


def oracle(indices):
    return ANSWERS[indices]


def run(acquire=SAAL, protocol=PROTOCOL, seed=1, test=TEST, state=None, **options):
    """All cycles, with copies of the arrays that the next cycle would take over."""
    problem = problem_of(acquire, protocol, test=test)
    cycles = simulate(seed_key(seed), problem, first(seed, protocol), oracle, state, **options)
    return [cycle._replace(state=jax.tree.map(np.array, cycle.state)) for cycle in cycles]


@pytest.mark.parametrize("acquire", METHODS.values(), ids=METHODS)
def test_labels_are_counted_exactly_and_never_bought_twice(acquire):
    cycles = run(acquire)
    assert [cycle.metrics["num_labelled"] for cycle in cycles] == [6, 10, 14, 18]
    bought = np.concatenate([cycle.asked.indices for cycle in cycles])
    assert len(set(bought.tolist())) == len(bought) == 18
    known = np.zeros(40, bool)
    for state, asked, *_ in cycles:
        assert not known[asked.indices].any()
        known[asked.indices] = True
        np.testing.assert_array_equal(state.labels.known, known)
        np.testing.assert_array_equal(state.labels.values, np.where(known, ANSWERS, -1))
    assert np.bincount(ANSWERS[cycles[0].asked.indices]).tolist() == [2, 2, 2]


def test_every_method_starts_alike_and_every_seed_elsewhere():
    starts = {name: run(acquire, PROTOCOL._replace(cycles=1))[0] for name, acquire in METHODS.items()}
    for cycle in starts.values():
        chex.assert_trees_all_equal(cycle.state, starts["random"].state)
    other = run(seed=2)[0].state
    assert (other.labels.known != starts["saal"].state.labels.known).any()


def test_repeats_to_the_bit():
    for cycle, other in zip(run(), run(), strict=True):
        chex.assert_trees_all_equal(cycle.state, other.state)
        chex.assert_trees_all_equal(cycle.asked, other.asked)
        assert cycle.metrics == other.metrics


@pytest.mark.parametrize("warm_start", [True, False])
def test_continues_from_any_cycle_to_the_same_bits(warm_start):
    protocol = PROTOCOL._replace(warm_start=warm_start)
    whole = run(protocol=protocol)
    state = whole[1].state
    state = State(int(state.cycle), jax.tree.map(jax.numpy.array, state.trained), state.labels)
    rest = run(protocol=protocol, state=state)
    assert [int(cycle.state.cycle) for cycle in rest] == [2, 3]
    chex.assert_trees_all_equal(rest[-1].state, whole[-1].state)


@pytest.mark.parametrize("warm_start", [True, False])
def test_a_person_may_stand_between_ask_and_tell(warm_start):
    """Who answers may take a week: the state goes to a file and back, and the bytes are those of a simulation."""
    problem, key = problem_of(protocol=PROTOCOL._replace(warm_start=warm_start)), seed_key(1)
    start = first(1).indices
    state, metrics = fit(key, problem, tell(nothing_known(TASK, 40), start, oracle(start)))
    for cycle in run(protocol=problem.protocol)[1:]:
        asked = ask(key, problem, state)
        state, asked = pickle.loads(pickle.dumps((state, asked)))
        state, metrics = fit(key, problem, tell(state.labels, asked.indices, oracle(asked.indices)), state)
        chex.assert_trees_all_equal(asked, cycle.asked)
        assert metrics == cycle.metrics
    chex.assert_trees_all_equal(jax.tree.map(np.array, state), cycle.state)


@pytest.mark.parametrize("acquire", METHODS.values(), ids=METHODS)
def test_no_answer_is_read_that_was_not_bought(acquire):
    read = []

    def watched(indices):
        read.extend(np.asarray(indices).tolist())
        return oracle(indices)

    cycles = list(simulate(seed_key(1), problem_of(acquire), first(1), watched))
    bought = np.concatenate([cycle.asked.indices for cycle in cycles]).tolist()
    if acquire is METHODS["saal, true"]:
        assert set(read) == set(range(40))
        with pytest.raises(InputError, match="looks at the answers, which only a simulation has"):
            ask(seed_key(1), problem_of(acquire), cycles[-1].state)
    else:
        assert read == bought


def test_cold_start_forgets_and_warm_start_continues():
    """Adam counts its steps: over one cycle, or over all of them."""
    counts = {}
    for warm_start in (True, False):
        cycles = run(protocol=PROTOCOL._replace(warm_start=warm_start))
        counts[warm_start] = [int(cycle.state.trained.opt_state[0].count) for cycle in cycles]
    steps = np.array([2, 3, 4, 5]) * 2  # batches of four, two epochs
    assert counts[False] == steps.tolist()
    assert counts[True] == np.cumsum(steps).tolist()


def test_a_subset_of_the_pool_is_drawn_anew_each_cycle():
    seen = []

    def spy(query):
        seen.append(np.asarray(query.available).copy())
        return METHODS["random"](query)

    cycles = run(spy, PROTOCOL._replace(pool_subset=8))
    assert [int(available.sum()) for available in seen] == [8, 8, 8]
    for available, before in zip(seen, cycles, strict=False):
        assert not (available & before.state.labels.known).any()
    assert (seen[0] != seen[1]).any()


def test_a_budget_larger_than_the_pool_ends_with_everything_labelled():
    cycles = run(protocol=PROTOCOL._replace(query_size=15, cycles=9))
    assert [cycle.metrics["num_labelled"] for cycle in cycles] == [6, 21, 36, 40]
    assert len(cycles[-1].asked.indices) == 4


def test_scores_and_pseudo_labels_are_those_of_the_model_before():
    before, after, *_ = run()
    images = POOL.images[after.asked.indices]
    expected = RECIPE.apply(before.state.trained.weights, images).argmax(1)
    np.testing.assert_array_equal(after.asked.predicted, expected)
    assert np.isfinite(after.asked.scores).all()


def test_no_test_image_influences_training_or_selection():
    cycle, other = run()[-1], run(test=OTHER_TEST)[-1]
    chex.assert_trees_all_equal(cycle.state, other.state)
    chex.assert_trees_all_equal(cycle.asked, other.asked)
    assert cycle.metrics["test_loss"] != other.metrics["test_loss"]


def test_metrics_of_a_known_model():
    result = run()[-1]
    logits = RECIPE.apply(result.state.trained.weights, TEST.images)
    labels = np.asarray(TEST.labels)
    correct = np.asarray(logits.argmax(1) == labels)
    assert result.metrics["test_accuracy"] == pytest.approx(100 * correct.mean())
    expected = [100 * correct[labels == label].mean() for label in range(3)]
    assert result.metrics["class_accuracies"] == pytest.approx(expected)
    loss = -jax.nn.log_softmax(logits)[np.arange(15), labels].mean()
    assert result.metrics["test_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_outputs_are_measured_where_they_are_computed(monkeypatch):
    """Where what a network returns is large, of few examples at once; and nothing of it reaches the host."""
    plain, sizes, summarized = run(protocol=PROTOCOL._replace(cycles=0))[0].metrics, [], []

    def measure(logits, labels):
        sizes.append(len(logits))
        return {"right": logits.argmax(1) == labels}

    def summarize(measured):
        summarized.append(jax.tree.map(np.shape, measured))
        return {"test_accuracy": 100 * float(measured["right"].mean())}

    monkeypatch.setattr("saal_jax.loop._OUTPUT_BYTES", 50)  # logits of three classes are 12
    problem = problem_of()._replace(task=TASK._replace(measure=measure, summarize=summarize))
    for _ in range(2):
        _, metrics = fit(
            seed_key(1), problem, tell(nothing_known(TASK, 40), first(1).indices, oracle(first(1).indices))
        )
        assert metrics["test_accuracy"] == pytest.approx(plain["test_accuracy"])
        assert metrics.keys() == {"num_labelled", "train_loss", "test_accuracy"}
    assert sizes == [4]  # traced once
    assert summarized == [{"right": (15,)}] * 2


def test_a_score_that_is_not_finite_stops_and_names_its_example():
    with pytest.raises(InputError, match="scores are not finite, of examples train_"):
        diverged = supervised(adam(learning_rate=1e30))
        acquire = ACQUISITIONS["saal"](diverged.apply, TASK)
        list(simulate(seed_key(0), problem_of(acquire, recipe=diverged), first(0), oracle))


def test_one_trace_of_each_function_over_all_cycles_and_seeds():
    chex.clear_trace_counter()
    augment = chex.assert_max_traces(unchanged, n=1)
    ours = supervised(adam(), augment)
    traces = []

    def counted(weights, images):
        traces.append(images.shape)
        return ours.apply(weights, images)

    counted_recipe = ours._replace(offers=ours.offers | {"apply": counted})
    acquire = ACQUISITIONS["saal"](counted, TASK)
    after = []
    for seed in (1, 2):
        for _ in simulate(seed_key(seed), problem_of(acquire, recipe=counted_recipe), first(seed), oracle):
            after.append(len(traces))
    assert after[0] == 2  # what the test images are measured by, and before it the shape of the outputs
    # And, with the first query, the answers of the model and the score: the check of its arguments and its two halves,
    # once for the program and twice to estimate its memory.
    assert after[1] == after[-1] == 2 + 1 + 3 * 3


def test_screening_scores_the_images_of_the_largest_clean_loss_only():
    weights = supervised(adam()).init(jax.random.key(0)).weights
    available, sweeps = np.arange(40) % 4 != 0, []

    def sweep(score_fn, weights, arrays, available, **options):
        sweeps.append(available)
        return score_available(score_fn, weights, arrays, available, POOL.names, **options)

    def choose(**options):
        acquire = saal(mode="max", **options)
        return acquire(Query(jax.random.key(1), POOL, ~available, available, 4, weights, sweep))

    _, all_scores, _ = choose()
    selection, scores, _ = choose(screening=0.3)
    assert [mask.sum() for mask in sweeps] == [30, 30, 9]
    screened = sweeps[-1]
    losses = score_pool(lambda w, x: -jax.nn.log_softmax(RECIPE.apply(w, x)).max(1), weights, POOL.images)
    assert losses[screened].min() >= losses[available & ~screened].max()
    np.testing.assert_allclose(scores[screened], all_scores[screened], rtol=1e-5)
    assert np.isnan(scores[~screened]).all()
    assert screened[np.asarray(selection.indices)].all()
    with pytest.raises(InputError, match="screening leaves out what mode=max_diversity chooses from"):
        saal(screening=0.5)


def test_progress_runs_through_the_phases():
    heard = []
    run(progress=lambda phase, done, total: heard.append((phase, done, total)), protocol=PROTOCOL._replace(cycles=1))
    trained = [("train", 1, 2), ("train", 2, 2), ("test", 15, 15)]
    assert heard == [*trained, ("score", 34, 34), *trained]


def test_as_many_steps_in_every_cycle_however_many_labels():
    cycles = run(protocol=PROTOCOL._replace(epochs=None, steps=5))
    assert [int(cycle.state.trained.opt_state[0].count) for cycle in cycles] == [5, 5, 5, 5]
    epochs = run(protocol=PROTOCOL._replace(cycles=1))
    steps = run(protocol=PROTOCOL._replace(cycles=1, epochs=None, steps=4))  # two batches of six labels, twice
    chex.assert_trees_all_equal(epochs[0].state, steps[0].state)
    assert epochs[0].metrics == steps[0].metrics


def test_the_loss_of_an_unfinished_epoch_is_the_mean_over_what_was_seen():
    """Weights stand still, so every image has one loss, whenever it is seen."""
    still = supervised(sgd(learning_rate=1e-30))
    labels = tell(nothing_known(TASK, 40), [0, 1, 2, 3, 4, 5], oracle([0, 1, 2, 3, 4, 5]))
    problem = problem_of(recipe=still, protocol=PROTOCOL._replace(epochs=None, steps=3, batch_size=2))
    weights = still.init(named(seed_key(1), "initial weights")).weights
    losses = -np.asarray(jax.nn.log_softmax(still.apply(weights, POOL.images[:6])))[np.arange(6), ANSWERS[:6]]
    assert fit(seed_key(1), problem, labels)[1]["train_loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    one = problem._replace(protocol=problem.protocol._replace(steps=1))
    seen = fit(seed_key(1), one, labels)[1]["train_loss"]
    assert min(abs(seen - losses[[i, j]].mean()) for i in range(6) for j in range(i)) < 1e-5
