"""The worker's side of a turn; needs neither JAX nor PyTorch."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def timed(fun: Callable[[], Any]) -> tuple[Any, float]:
    """`(result, seconds)` of `fun()`."""
    start = time.perf_counter()
    result = fun()
    return result, time.perf_counter() - start


def serve(turn: Callable[[], dict], first_seconds: float, values: list) -> None:
    """Prints what the first call took and what all contenders must agree in, then takes a turn for every line read.

    `turn() -> dict` of what is to be recorded, to which the CPU time of all threads and the peak of memory are added.
    """
    print(json.dumps({"first_seconds": first_seconds, "values": values}), flush=True)
    for _ in sys.stdin:
        before = time.process_time()
        answer = turn()
        measured = {"cpu_seconds": time.process_time() - before, "peak_bytes": _peak_bytes()}
        print(json.dumps({**answer, **measured}), flush=True)


def _peak_bytes() -> int:
    """Of this process alone: what `getrusage` returns starts at the peak of the process that started it (Linux)."""
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kib)
