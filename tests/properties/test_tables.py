"""Any metrics.csv and config.json is reported as what it says, or refused in one line."""

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

HEADER = ["seed", "cycle", "num_labelled", "test_accuracy"]


@st.composite
def curves(draw):
    """The rows of a valid table: each seed with as many cycles."""
    seeds = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
    cycles = draw(st.integers(1, 4))
    accuracy = st.floats(0, 100).map(lambda value: round(value, 6))
    return [[seed, cycle, 10 + 5 * cycle, draw(accuracy)] for seed in seeds for cycle in range(cycles)]


def text_of(header, rows):
    return "".join(",".join(map(str, row)) + "\n" for row in [header, *rows])


def ask(child, folder, table, config=b"{}"):
    workdir = Path(folder())
    (workdir / "metrics.csv").write_bytes(table)
    (workdir / "config.json").write_bytes(config)
    return child.ask("compare", str(workdir))


@given(rows=curves())
def test_valid_tables(child, folder, rows):
    last = max(row[1] for row in rows)
    final = np.array([row[3] for row in rows if row[1] == last])
    assert f"{final.mean():.2f}" in ask(child, folder, text_of(HEADER, rows).encode())["result"]


odd = st.sampled_from(["", "nan", '"', "1e999", "0x1", "\x00", "1" * 5000])
cells = st.one_of(st.text(max_size=5), st.floats().map(str), st.integers().map(str), odd)


@given(rows=curves(), data=st.data())
def test_tables_with_other_cells(child, folder, rows, data):
    table = [list(map(str, row)) for row in [HEADER, *rows]]
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.sampled_from(table))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(cells)
    ask(child, folder, "".join(",".join(row) + "\n" for row in table).encode(errors="surrogatepass"))


@given(rows=curves(), data=st.data())
def test_damaged_tables(child, folder, rows, data):
    table = text_of(HEADER, rows).encode()
    place = data.draw(st.integers(0, len(table) - 1))
    ask(child, folder, table[:place] + data.draw(st.binary(max_size=3)) + table[place + data.draw(st.integers(0, 9)) :])


texts = st.text(st.characters(codec="utf-8"), max_size=100).map(str.encode)


@given(content=st.one_of(st.binary(max_size=100), texts))
def test_any_bytes(child, folder, content):
    ask(child, folder, content)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["cifar10", "resnet18"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["dataset", "model", "optimizer", "name"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(config=st.one_of(json_values.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
def test_any_config_beside_a_valid_table(child, folder, config):
    answer = ask(child, folder, text_of(HEADER, [[1, 0, 10, 50.0], [1, 1, 20, 62.5]]).encode(), config)
    assert "62.50" in answer["result"]  # only the picture asks it whether there is a released curve
