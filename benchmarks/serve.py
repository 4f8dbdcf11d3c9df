"""The worker's side of a turn; needs neither JAX nor PyTorch."""

import json
import resource
import sys
import time


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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**answer, "peak_bytes": peak}), flush=True)
