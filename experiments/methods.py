"""What there is to choose from: `python -m experiments.methods` prints the tables of docs/methods.md."""

from experiments import command

if __name__ == "__main__":
    command.stop_while_loading()

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from experiments.schema import options_of
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.errors import InputError
from saal_jax.recipes import OFFERS, RECIPES
from saal_jax.registry import describe
from saal_jax.spec import needs


class Method(NamedTuple):
    """An acquisition, as its module's docstring and its signature describe it."""

    name: str
    title: str
    picks: str
    needs: list[str]
    options: list[str]
    cost: str
    scales: str


def methods() -> list[Method]:
    """All acquisitions, by name."""
    return [_method(name, function) for name, function in sorted(ACQUISITIONS.items())]


def _method(name: str, function: Callable) -> Method:
    summary, cost, scales = describe(function, "Cost", "Scales")
    title, colon, picks = summary.partition(": ")
    if not colon:
        raise InputError(f"{name}.py: its docstring must begin with `Name (source): what it picks`, as those beside it")
    options = [option.name for option in options_of(function)]
    return Method(name, title, picks.rstrip("."), needs(name), options, cost, scales)


def listing() -> str:
    """The acquisitions for a terminal."""
    blocks = []
    for method in methods():
        needed = ", ".join(method.needs) or "nothing"
        blocks.append(
            f"{method.name}\n    {method.title}: {method.picks}\n    needs {needed}; {method.cost}\n    {method.scales}"
        )
    offers = "\n".join(f"    {name}: {what}; {offered_by}" for name, (what, offered_by) in OFFERS.items())
    return "\n".join(blocks) + f"\nWhat they need of a recipe is\n{offers}"


def document() -> str:
    """The acquisitions and recipes as Markdown."""
    lines = [
        "# Methods",
        "",
        "Printed by `python -m experiments.methods` from the code. An acquisition runs under every recipe that offers",
        "what it needs; any other pair is refused, naming what is missing.",
        "",
        "| `--config.acquisition.name=` | from | picks | needs | its keys | cost per example | scales |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in methods():
        cells = (f"`{method.name}`", method.title, method.picks, _code(method.needs), _code(method.options))
        lines.append(_row(*cells, method.cost.rstrip("."), method.scales.rstrip(".")))
    lines += ["", "N candidates, L labels, k picks, C classes, D features.", ""]
    lines += ["| `--config.recipe.name=` | trains | its keys |", "|---|---|---|"]
    for name, function in sorted(RECIPES.items()):
        (about,) = describe(function)
        lines.append(_row(f"`{name}`", about.rstrip("."), _code(option.name for option in options_of(function))))
    lines += ["", "| needed | is | offered by |", "|---|---|---|"]
    lines += [_row(f"`{name}`", *offer) for name, offer in OFFERS.items()]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"


@command.command(stopped="stopped")
def main(argv: list[str] | None = None) -> None:
    """Prints the document."""
    argparse.ArgumentParser(prog="python -m experiments.methods", description=__doc__).parse_args(argv)
    print(document())


if __name__ == "__main__":
    sys.exit(main())
