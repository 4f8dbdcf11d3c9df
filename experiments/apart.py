"""Where two runs part: the first cycle, and the first arrays of it, that are not the same to the bit."""

from pathlib import Path

from experiments.tables import read_csv
from saal_jax.errors import InputError

_Digests = dict[tuple[int, int], dict[str, str]]  # {(seed, cycle): {array: digest}}


def where_apart(first: Path, second: Path) -> str:
    """A line for each seed that both have."""
    ours, theirs = _digests(first), _digests(second)
    seeds = sorted({seed for seed, _ in ours} & {seed for seed, _ in theirs})
    if not seeds:
        raise InputError(f"{first} and {second} have no seed in common")
    return "\n".join(_line(seed, ours, theirs) for seed in seeds)


def _line(seed: int, ours: _Digests, theirs: _Digests) -> str:
    cycles = sorted(cycle for other, cycle in ours.keys() & theirs.keys() if other == seed)
    for cycle in cycles:
        our, their = ours[seed, cycle], theirs[seed, cycle]
        arrays = [name for name in {**our, **their} if our.get(name) != their.get(name)]
        if arrays:
            listed = ", ".join(arrays[:4]) + f" and {len(arrays) - 4} more" * (len(arrays) > 4)
            return f"seed {seed}: different from cycle {cycle} on, in {listed}"
    return f"seed {seed}: the same to the bit in the {len(cycles)} cycles that both have"


def _digests(workdir: Path) -> _Digests:
    digests: _Digests = {}
    try:
        for row in read_csv(workdir / "digests.csv"):
            digests.setdefault((int(row["seed"]), int(row["cycle"])), {})[row["array"]] = row["sha256"]
    except (OSError, KeyError, TypeError, ValueError):
        raise InputError(f"{workdir} has no readable digests.csv: name the workdir of a run of this version") from None
    return digests
