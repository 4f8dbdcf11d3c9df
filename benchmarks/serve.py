"""The worker's side of a turn; needs neither JAX nor PyTorch."""

import json
import re
import sys
import time
from pathlib import Path


def timed(fun):
    """`(result, seconds)` of `fun()`."""
    start = time.perf_counter()
    result = fun()
    return result, time.perf_counter() - start


def serve(turn, first_seconds, values):
    """Tells what the first call took and what all contenders must agree in, then takes a turn for every line read.

    `turn() -> dict` of what is to be recorded.
    """
    print(json.dumps({"first_seconds": first_seconds, "values": values}), flush=True)
    for _ in sys.stdin:
        answer = turn()
        print(json.dumps({**answer, "peak_bytes": _peak_bytes()}), flush=True)


def _peak_bytes():
    """Of this process alone: what `getrusage` tells starts at the peak of the process that started it (Linux)."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
