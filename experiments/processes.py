"""Several processes that run the same program, on one machine or many: JAX's own runtime connects and watches them.

Process 0 alone prints, and reads and writes the workdir; `on_first` sends its results to the others.
"""

import hashlib
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather

from saal_jax.errors import InputError

Result = TypeVar("Result")

# Milliseconds to wait for process 0, which may write for long; the end of a process is noticed.
_PATIENCE = 24 * 3600 * 1000


def join() -> None:
    """Connects to the other processes, which Slurm, Open MPI, Kubernetes or a TPU names, or else the environment:
    JAX_COORDINATOR_ADDRESS=HOST:PORT (of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    numbers: dict[str, int] = {}
    for name, variable in (("num_processes", "JAX_NUM_PROCESSES"), ("process_id", "JAX_PROCESS_ID")):
        text = os.environ.get(variable)
        if text is not None:
            if not text.isdecimal():
                raise InputError(f"{variable}={text!r}: must be a whole number")
            numbers[name] = int(text)
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address is not None:
        _check_port(address, numbers.get("process_id") == 0)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        jax.distributed.initialize(num_processes=numbers.get("num_processes"), process_id=numbers.get("process_id"))
    except ValueError as error:  # before any connection
        raise InputError(
            f"--distributed: {error} Without Slurm, Open MPI or Kubernetes, set "
            "JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from None
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (until the process ends)


def _check_port(address: str, serving: bool) -> None:
    """Refuses an address whose port is none or, where this process is to serve there, is taken: JAX would crash."""
    port = address.rpartition(":")[2]
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise InputError(f"JAX_COORDINATOR_ADDRESS={address!r}: must be HOST:PORT, the port free on process 0's host")
    if serving:
        both = socket.has_dualstack_ipv6()  # JAX listens on all addresses of this host
        try:
            socket.create_server(
                ("", int(port)), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
            ).close()
        except OSError as error:
            raise InputError(
                f"JAX_COORDINATOR_ADDRESS={address!r}: cannot listen on port {port} ({os.strerror(error.errno or 0)}); "
                "name a free one"
            ) from None


def check_platforms() -> None:
    """Refuses a JAX_PLATFORMS that JAX cannot start; call it after `join`."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        if not platforms:
            raise
        reason = f" ({error})" if str(error) else ""
        raise InputError(
            f"JAX_PLATFORMS={platforms}: JAX cannot compute there{reason}; unset it, or name another, as in "
            "JAX_PLATFORMS=cpu"
        ) from None


def on_first(function: Callable[..., Result], *args: Any) -> Result:
    """Calls `function` in process 0 only; returns its result, or raises its exception, in every process."""
    if not jax.distributed.is_initialized():
        return function(*args)
    import orbax.checkpoint as ocp

    message = b""
    if jax.process_index() == 0:
        try:
            message = pickle.dumps((function(*args), None))
        except Exception as error:
            message = pickle.dumps((None, error))
    # Collectives give up after a while, the barrier of the coordination service only when a process is gone.
    ocp.multihost.get_barrier_sync_fn()(key="on_first", timeout_ms=_PATIENCE)
    size = _from_first(np.array([len(message)], np.int64).view(np.uint8)).view(np.int64)[0]
    result, raised = pickle.loads(_from_first(np.frombuffer(message.ljust(size), np.uint8)).tobytes())
    if raised is not None:
        raise raised
    return result


def _from_first(data: np.ndarray) -> np.ndarray:
    """Bytes of process 0: as bytes, so that not even the sign of a zero is lost in the sum that carries them."""
    return np.asarray(broadcast_one_to_all(data))


def agree(what: str, value: Any) -> None:
    """Refuses, in all processes, a `value` that is not the same in all."""
    digest = np.frombuffer(hashlib.sha256(repr(value).encode()).digest(), np.uint8)
    others = np.flatnonzero((process_allgather(digest[None]) != digest).any((1, 2)))
    if others.size:
        raise InputError(f"process {jax.process_index()} and process {others[0]} have different {what}")


def end(main: Callable[[], int]) -> NoReturn:
    """Ends this process with the status of `main()`.

    One that a signal has stopped ends at once: threads may still be at work. So does one of several that fails: JAX
    would first wait, for minutes, for others that wait for this one.
    """
    try:
        status = main()
    except BaseException:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        print("stopped, perhaps as another process was: see its output; the same command continues", file=sys.stderr)
        status = 1
    if status > 128 or (status and jax.distributed.is_initialized()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
