"""Changes to the code that the tests ought to see: `make mutations` lists those that they do not.

Applies each of `written.CHANGES`, and `DRAWN` changes of one operator, number or condition that are drawn from all
that cosmic-ray can make in `TESTS_OF`, to a copy of the tree, one at a time; runs the tests that reach that file until
one fails; prints a table in Markdown.
"""

import argparse
import ast
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

from tests.mutations.written import CHANGES

ROOT = Path(__file__).parents[2]
DRAWN, LIMIT = 40, 900  # changes; seconds for the tests of one
RUNS = ("tests/test_wiring.py", "tests/experiments/test_run.py")
OF_RECIPES = ("tests/experiments/test_schema.py", "tests/test_recipes.py", "tests/test_wiring.py")
OF_RECIPES += ("tests/experiments/test_methods.py",)
TESTS_OF = {  # what is drawn from, and what reaches it, the quickest first
    "experiments/workdir.py": ("tests/experiments/test_resume.py", "tests/experiments/test_run.py"),
    "saal_jax/loop.py": ("tests/test_loop.py", "tests/test_regions.py", *RUNS),
    "saal_jax/training.py": ("tests/test_training.py", "tests/test_recipes.py", *RUNS),
    **{path.relative_to(ROOT).as_posix(): OF_RECIPES for path in (ROOT / "saal_jax" / "recipes").glob("*.py")},
}


class Mutant(NamedTuple):
    """A file with one change."""

    file: str
    line: int
    change: str
    text: str
    tests: tuple[str, ...]
    slow: bool = False


class _Positions(Visitor):
    """Where an operator can change a file, in cosmic-ray's order."""

    def __init__(self, operator):
        self.operator, self.starts = operator, []

    def visit(self, node):
        self.starts += [start for start, _ in self.operator.mutation_positions(node)]
        return node


def drawn() -> tuple[list[Mutant], int]:
    """`DRAWN` changes, by file and line, and from how many they are drawn."""
    everything = [place for file in sorted(TESTS_OF) for place in _places(file)]
    shuffled = random.Random(0).sample(everything, len(everything))
    whole = (mutant for place in shuffled if _is_python((mutant := _mutant(*place)).text))
    return sorted(itertools.islice(whole, DRAWN)), len(everything)


def _places(file):
    """Where cosmic-ray can change a file, by position: `(file, start, operator, how many of it are before)`."""
    text, provider = (ROOT / file).read_text(), OperatorProvider()
    types, tree, places = _annotations(text), get_ast(text), []
    for name in provider:
        if provider[name].arguments():  # about names that somebody chooses
            continue
        positions = _Positions(provider[name]())
        positions.walk(tree)
        for count, start in enumerate(positions.starts):
            if not ("BitOr" in name and any(first <= start < last for first, last in types)):  # `int | None`
                places.append((file, start, name, count))
    return sorted(places)


def _mutant(file, start, operator, count):
    before = (ROOT / file).read_text()
    after = mutate_code(before, OperatorProvider()[operator](), count)
    return Mutant(file, *_change(before, after), after, TESTS_OF[file])


def _is_python(text):
    """Not, where the star before keywords became another sign."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _annotations(text):
    """Where types are written: they have no behaviour."""
    nodes = [
        part
        for node in ast.walk(ast.parse(text))
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part
    ]
    return [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in nodes]


def _change(before, after):
    """The first line that differs, and the two, apart from what they share."""
    pairs = zip(before.splitlines() + [""], after.splitlines() + [""], strict=False)
    line, old, new = next((number, old, new) for number, (old, new) in enumerate(pairs, 1) if old != new)
    return line, f"`{old.strip()}` -> `{new.strip()}`"


def written() -> list[Mutant]:
    """Those of `CHANGES`; each must still fit."""
    mutants = []
    for change in CHANGES:
        text = (ROOT / change.file).read_text()
        assert text.count(change.old) == 1, f"{change.about}: {change.file} has the old text {text.count(change.old)}x"
        after = text.replace(change.old, change.new)
        line = _change(text, after)[0]
        mutants.append(Mutant(change.file, line, change.about, after, change.tests, change.slow))
    return mutants


def killed_by(mutant: Mutant, copy: Path) -> str:
    """The first test that fails on this change, or `survived`."""
    file = copy / mutant.file
    before = file.read_text()
    file.write_text(mutant.text)
    try:
        return first_failure(copy, mutant.tests, mutant.slow) or "**survived**"
    finally:
        file.write_text(before)


def first_failure(copy: Path, tests: tuple[str, ...], slow: bool) -> str:
    """The first of these tests that fails as the copy is now; nothing where all pass."""
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-rfE", f"--basetemp={copy.parent / 'pytest'}"]
    options += ["-m", ""] if slow else []
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "compiled"))
    command = [sys.executable, "-m", "pytest", *options, *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, timeout=LIMIT, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"no end in {LIMIT} s"
    if done.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return f"`{failed[1]}`" if failed else f"status {done.returncode}: {(done.stdout + done.stderr)[-200:]!r}"


def copy_to(copy: Path) -> None:
    """Copies all files that git knows, or could, as they are now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def main() -> None:
    """Prints a row for each change."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", help="of the table, those to try, as in 3,17")
    parser.add_argument("--list", action="store_true", help="print the changes, and stop")
    arguments = parser.parse_args()
    by_chance, total = drawn()
    mutants = written() + by_chance
    numbers = list(map(int, arguments.rows.split(","))) if arguments.rows else range(1, len(mutants) + 1)
    chosen = {number: mutants[number - 1] for number in numbers}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        copy_to(copy)
        runs = set() if arguments.list else {(mutant.tests, mutant.slow) for mutant in chosen.values()}
        for tests, slow in sorted(runs):
            if failure := first_failure(copy, tests, slow):
                sys.exit(f"error: {failure} fails without any change")
        print(f"{DRAWN} are drawn from {total}.\n\n| | file | line | change | killed by |\n|---|---|---|---|---|")
        for number, mutant in chosen.items():
            result = "" if arguments.list else killed_by(mutant, copy)
            change = mutant.change.replace("|", "\\|")
            print(f"| {number} | {mutant.file} | {mutant.line} | {change} | {result} |", flush=True)


if __name__ == "__main__":
    main()
