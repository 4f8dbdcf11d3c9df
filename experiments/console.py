"""The console scripts: `saal-run` is `python -m experiments.run`, `saal-report` is `python -m experiments.report`."""

import importlib

from experiments import command


def run() -> None:
    """`saal-run`."""
    _start("run")


def report() -> None:
    """`saal-report`."""
    _start("report")


def _start(name: str) -> None:
    command.stop_while_loading()  # before what takes seconds is imported
    module = importlib.import_module(f"experiments.{name}")
    importlib.import_module("experiments.processes").end(module.main)
