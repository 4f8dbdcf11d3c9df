"""A damaged folder of checkpoints gives one that was saved, bit for bit, or is refused in one line."""

import hashlib
import os
import shutil

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from saal_jax import checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of two checkpoints, and what each of them holds."""
    folder, held = tmp_path_factory.mktemp("checkpoints") / "seed_1", {}
    for cycle in (1, 2):
        array = np.random.default_rng(cycle).normal(size=50)
        checkpoint.save(folder, cycle, {"a": array, "b": {"c": np.arange(3)}}, {"history": ["cycle"] * cycle})
        held[cycle] = [cycle, hashlib.sha256(array).hexdigest(), {"history": ["cycle"] * cycle}]
    return folder, held


damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "remove", "empty", "copy over", "folder", "append", "rename"]),
        st.integers(0, 10**6),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 255),
    ),
    min_size=1,
    max_size=3,
)


def damage(folder, kind, number, where, bits):
    """Damages one file; `copy over` puts another one in its place."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path, other = files[number % len(files)], files[(number // len(files)) % len(files)]
    content = path.read_bytes()
    place = int(where * len(content))
    if kind == "flip" and content:
        path.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])
    elif kind == "cut":
        path.write_bytes(content[:place])
    elif kind == "append":
        path.write_bytes(content + bytes([bits]))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "copy over":
        path.write_bytes(other.read_bytes())
    elif kind == "rename":
        path.rename(path.with_name(path.name + "x"))
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()


@given(damages=damages)
def test_any_damage(child, folder, saved, damages):
    whole, held = saved
    copy = shutil.copytree(whole, whole.parent / os.path.basename(folder()))
    try:
        for one in damages:
            damage(copy, *one)
        answer = child.ask("newest", str(copy))
    finally:
        shutil.rmtree(copy)
    event("refused" if "refused" in answer else "read")
    if "result" in answer:
        assert answer["result"] in held.values()
    else:
        assert "damaged" in answer["refused"]
