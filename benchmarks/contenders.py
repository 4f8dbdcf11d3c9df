"""What all benchmarks share: contenders in processes of their own, turns, one table, one JSON file."""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.rates import rates

Row = dict[str, Any]  # what was measured of a contender, by name
Columns = dict[str, tuple[str, str]]  # heading -> a key of the rows, and its format

AGREEMENT = 1e-4  # relative, before anything is timed


class Contender:
    """A worker process that takes one timed turn for every line it reads."""

    def __init__(self, name: str, python: str, script: str, *arguments: str | Path):
        self.name = name
        command = [python, str(Path(__file__).parent / script), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self._read()
        self.first_seconds: float = ready["first_seconds"]
        self.values = np.array(ready["values"])
        self.answers: list[Row] = []

    def turn(self) -> None:
        """One timed turn; `seconds` and whatever else it measures is kept in `answers`."""
        print("go", file=self.process.stdin, flush=True)
        self.answers.append(self._read())

    def median(self, key: str) -> float:
        return statistics.median(answer[key] for answer in self.answers)

    def close(self) -> None:
        assert self.process.stdin  # a pipe
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> Row:
        assert self.process.stdout  # a pipe
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: the worker of {self.name} ended early (status {self.process.wait()})")
        return json.loads(line)


def compete(title: str, contenders: list[Contender], repeats: int) -> None:
    """Takes `repeats` turns with each contender, one after the other, once all agree with the first in `values`."""
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            stack.callback(contender.close)
        ours = contenders[0]
        for contender in contenders[1:]:
            difference = np.max(np.abs(contender.values - ours.values) / np.abs(ours.values))
            if not difference <= AGREEMENT:
                sys.exit(f"error: {title}: {contender.name} differs from {ours.name} by {difference:.1e}, relative")
        for _ in range(repeats):
            for contender in contenders:
                contender.turn()


def speeds(
    title: str, contenders: list[Contender], unit: str, count: int, operations: float, traffic: float
) -> list[Row]:
    """A row for each contender, of `count` units per turn, and one for the floor: what the `operations` and bytes of
    `traffic` of one unit cost at the rates this machine shows now.
    """
    flops, bandwidth = rates()
    print(f"{title}: machine {flops / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s", file=sys.stderr)
    floor = 1 / (operations / flops + traffic / bandwidth)
    rows: list[Row] = []
    for contender in contenders:
        rate = count / contender.median("seconds")
        rows.append(
            {
                "contender": contender.name,
                f"{unit}_per_second": rate,
                "saal_jax_is_faster_by": contender.median("seconds") / contenders[0].median("seconds"),
                "fraction_of_floor": rate / floor,
                "cpu_milliseconds": 1000 * contender.median("cpu_seconds") / count,
                "peak_gib": contender.answers[-1]["peak_bytes"] / 2**30,
                "first_call_seconds": contender.first_seconds,
            }
        )
    return [*rows, {"contender": "floor", f"{unit}_per_second": floor}]


def speed_columns(unit: str) -> Columns:
    return {
        f"{unit}/s": (f"{unit}_per_second", ",.1f"),
        "ours / this": ("saal_jax_is_faster_by", ".2f"),
        "of floor": ("fraction_of_floor", ".0%"),
        "CPU ms each": ("cpu_milliseconds", ",.2f"),
        "peak GiB": ("peak_gib", ".2f"),
        "first call s": ("first_call_seconds", ".1f"),
    }


def parser(module: str, doc: str | None, settings: Mapping[str, Any], repeats: int) -> argparse.ArgumentParser:
    """The command line that all benchmarks have, described by the first line of a module's `doc`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=(doc or "").partition("\n")[0])
    parser.add_argument("--peer_python", help="an interpreter that has PyTorch; without it only JAX is measured")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"turns of each contender (default {repeats})")
    names = ", ".join(settings)
    parser.add_argument(
        "--setting", choices=settings, action="append", metavar="NAME", help=f"may be repeated; default: all of {names}"
    )
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser


def report(
    measure: Callable[[str, Path, str | None, int], list[Row]],
    columns: Columns,
    arguments: argparse.Namespace,
    settings: Iterable[str],
) -> None:
    """Prints the rows of `measure(setting, folder, peer_python, repeats)` for each setting as soon as they are there.

    `columns` map a heading to a key of the rows and its format; all keys are written to the file of `--json`.
    """
    title_width = max(map(len, settings)) + 2
    measured: list[Row] = []
    print(" " * (title_width + 16) + "".join(f"{heading:>13}" for heading in columns), flush=True)
    for title in arguments.setting or settings:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(title, Path(folder), arguments.peer_python, arguments.repeats)
        for row in rows:
            cells = [f"{row[key]:{form}}" if key in row else "" for key, form in columns.values()]
            line = "".join(f"{cell:>13}" for cell in cells)
            print(f"{title:{title_width}}{row['contender']:16}{line}".rstrip(), flush=True)
        measured += [{"setting": title, **row} for row in rows]
    if arguments.json:
        content = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "rows": measured}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
