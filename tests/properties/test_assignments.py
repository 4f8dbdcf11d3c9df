"""Any `--config.KEY=VALUE` sets that key to that value, or is refused in one line."""

import ast

from hypothesis import event, given
from hypothesis import strategies as st

from experiments.schema import SECTIONS, Config, options_of

KEYS = [*Config.model_fields] + [
    f"{section}.{option}"
    for section, registry in SECTIONS.items()
    for option in ["name", *(option.name for function in registry.values() for option in options_of(function))]
]
NAMES = [name for registry in SECTIONS.values() for name in registry]
literals = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=5,
).map(repr)
values = st.one_of(
    literals,
    st.text(max_size=12),
    st.sampled_from([*NAMES, "none", "True", "1e999", "-1", "0", "1,2,3", "{[1]}", "(" * 500, "0x" + "f" * 9000]),
    st.integers(1, 10**18).map(str),
)
known = st.sampled_from(KEYS)
keys = st.one_of(known, known, st.text(max_size=8), st.lists(known).map(".".join))


def parsed(text):
    words = {"none": None, "true": True, "false": False}
    try:
        return words[text.lower()] if text.lower() in words else ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return text


def same(found, given):
    """Equal as JSON has it: a tuple is a list, a number may be a float, one value may stand for a list of one."""
    if isinstance(found, list):
        given = list(given) if isinstance(given, list | tuple) else [given]
        return len(found) == len(given) and all(map(same, found, given))
    return found == given


RIGHT = {
    "cycles": "0x10", "acquisition.rho": "1e-3", "seeds": "1,2", "model.width": "4", "mean": ".5", "image_size": "none",
    "warm_start": "true", "acquisition.name": "saal", "dataset": "digits[:10%]", "optimizer.learning_rate": "1",
}  # fmt: skip
pairs = st.one_of(st.sampled_from([*RIGHT.items()]), st.tuples(keys, values))


@given(assignments=st.lists(pairs, min_size=1, max_size=3, unique_by=lambda pair: pair[0]))
def test_any_assignment(child, assignments):
    texts = [f"--config.{key}={value}" for key, value in assignments]
    answer = child.ask("override", *texts)
    event("refused" if "refused" in answer else "set")
    if "refused" in answer:
        return
    for text in texts:
        key, _, value = text.removeprefix("--config.").partition("=")
        found = answer["result"]
        for part in key.split("."):
            found = found[part]
        assert same(found, parsed(value)), (key, value)


@given(text=st.text(max_size=20))
def test_any_text_after_config(child, text):
    child.ask("override", f"--config.{text}")
