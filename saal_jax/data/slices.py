"""TFDS's slicing language (`train[:40%]`, `train+validation`) for every source of images."""

import re

import jax

from saal_jax.data.on_disk import join
from saal_jax.errors import InputError

Ranges = list[tuple[str, int, int]]


def resolve(split: str, test_split: str, lengths: dict[str, list[int]], where: str) -> tuple[Ranges, Ranges]:
    """Turns two slice specifications into absolute ranges, `[(split name, start, stop), ...]` each.

    `lengths` holds the number of examples in each shard of each split that exists. Raises `InputError`, beginning
    with `where`, for a specification that cannot be read, selects nothing, or shares examples with the other.
    """
    train, test = ranges(split, lengths, where), ranges(test_split, lengths, where)
    if any(a == b and max(i, k) < min(j, m) for a, i, j in train for b, k, m in test):
        raise InputError(f"{where}: {split!r} and {test_split!r} share examples; choose slices that do not overlap")
    return train, test


def ranges(spec: str, lengths: dict[str, list[int]], where: str) -> Ranges:
    """Turns one slice specification into absolute ranges; `InputError` as `resolve` raises it."""
    if sum(lengths.get(spec, [])):  # the usual case needs no TFDS
        return [(spec, 0, sum(lengths[spec]))]
    import tensorflow_datasets as tfds

    # to TFDS `all` is the sum of the splits, which it does not slice: a split of that name goes by another meanwhile
    alias = "All" if "all" in lengths else "all"
    names = {alias if name == "all" else name: name for name in lengths}
    infos = {
        key: tfds.core.SplitInfo(name=key, shard_lengths=lengths[name], num_bytes=0) for key, name in names.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(re.sub(r"\ball\b", alias, spec)).to_absolute(infos)
    except (ValueError, AssertionError, NotImplementedError) as error:
        have = ", ".join(f"{name} ({sum(n)} examples)" for name, n in lengths.items())
        reason = str(error).strip().splitlines()[-1].rstrip(".").replace(f"'{alias}'", "'all'")
        raise InputError(f"{where}: cannot use split {spec!r}: {reason}; the splits that exist are {have}") from None
    open_ended = [(names[p.splitname], p.from_ or 0, p.to) for p in parts]
    absolute = [(name, start, sum(lengths[name]) if stop is None else stop) for name, start, stop in open_ended]
    if any(stop <= start for _, start, stop in absolute):
        raise InputError(f"{where}: split {spec!r} selects no examples; training and testing need at least one each")
    return absolute


def take_both(parts: dict, split: str, test_split: str, where: str):
    """Cuts two slices out of whole splits, `{name: (images, labels, ids)}`, of which labels may be several arrays."""
    pair = resolve(split, test_split, {name: [len(part[2])] for name, part in parts.items()}, where)
    return [_joined([_cut(parts[name], slice(start, stop)) for name, start, stop in ranges]) for ranges in pair]


def _cut(part, rows):
    return jax.tree.map(lambda array: array[rows], part)


def _joined(parts):
    return jax.tree.map(lambda *arrays: join(arrays), *parts)
