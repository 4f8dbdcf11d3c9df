"""Answers what becomes of an input: its result, or the line with which it is refused; a line of JSON each.

A process of its own, with a limit to its memory, so that an input can at worst end this one.
"""

import contextlib
import hashlib
import io
import json
import resource
import sys
import traceback
import warnings

import numpy as np

from experiments import report, schema
from saal_jax import InputError, checkpoint, data

BEYOND = 2 * 2**30  # bytes that an input may take on top of what the imports have


def load(name, cache_dir, split, test_split):
    loaded = data.load(name, cache_dir=cache_dir, split=split, test_split=test_split)
    parts = [
        {"images": part.images.tolist(), "labels": part.labels.tolist(), "ids": part.ids.tolist()}
        for part in (loaded.train, loaded.test)
    ]
    return [*parts, list(loaded.class_names)]


def override(*assignments):
    return schema.override(schema.load("digits_saal"), assignments).model_dump(mode="json")


def newest(folder):
    cycle, tree, record = checkpoint.load_newest(folder)
    return [cycle, hashlib.sha256(np.ascontiguousarray(tree["a"])).hexdigest(), record]


def compare(*workdirs):
    """What `experiments.report` prints, without its picture."""
    printed, said = io.StringIO(), io.StringIO()
    report.draw = lambda *_: None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        status = report.main([*workdirs, f"--picture={workdirs[0]}/curves.png"])
    if status == 0:
        return printed.getvalue()
    if status == 2 and said.getvalue().startswith("error: "):
        raise InputError(said.getvalue().removeprefix("error: ").removesuffix("\n"))
    raise AssertionError(f"status {status}: {said.getvalue()}")


WORKS = {function.__name__: function for function in (load, override, newest, compare)}


def main():
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BEYOND, taken + BEYOND))
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        work, *arguments = json.loads(line)
        try:
            answer = {"result": WORKS[work](*arguments)}
        except InputError as error:
            answer = {"refused": str(error)}
        except BaseException:
            answer = {"crashed": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
