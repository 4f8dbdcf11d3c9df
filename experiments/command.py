"""What the commands have in common: signals, warnings and errors are a line each on standard error, and a status.

Imports nothing large, so that a program can call `stop_while_loading` before it imports what takes seconds.
"""

import argparse
import contextlib
import errno
import functools
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar, overload

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 0.5  # seconds that a stopped command has to unwind
_received: list[int] = []  # the signals since the last command began


class Stopped(KeyboardInterrupt):
    """A signal, whose number it holds; a KeyboardInterrupt, as asyncio and others let these pass."""


Result = TypeVar("Result")
Main = Callable[[list[str] | None], Any]  # main(argv)


def command(stopped: str) -> Callable[[Main], Callable[..., int]]:
    """Decorates a `main(argv)`, which then returns an exit status; `stopped` is the line for SIGINT and SIGTERM.

    Status 0: done. 1: memory or disk is full; or a bug, which keeps its traceback. 2: input that cannot be used.
    130, 143: stopped by SIGINT, by SIGTERM. 141: whoever read the output has gone.
    """

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def run(argv: list[str] | None = None) -> int:
            sys.excepthook = sys.__excepthook__  # everything is loaded
            try:
                return _stoppable(stopped, functools.partial(_status, main, argv))
            except Stopped as stop:
                return 128 + stop.args[0]
            except KeyboardInterrupt:  # raised by no signal
                _print_stopped(stopped)
                return 128 + signal.SIGINT

        return run

    return decorate


def warn(message: Any) -> None:
    """One line to standard error."""
    _say(f"warning: {message}")


def check() -> None:
    """Raises Stopped where a signal has come: again, if a library has swallowed it."""
    if _received:
        raise Stopped(_received[0])


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The arguments that `parser` knows, and those that set a key of the config; any other ends the program."""
    arguments, assignments = parser.parse_known_args(argv)
    unknown = [argument for argument in assignments if not argument.startswith("--config.")]
    if unknown:
        parser.error(f"unknown argument {unknown[0]}; keys of the config are written --config.KEY=VALUE")
    return arguments, assignments


@overload
def path_of(flag: str, text: str) -> Path: ...
@overload
def path_of(flag: str, text: None) -> None: ...
def path_of(flag: str, text: str | None) -> Path | None:
    """The path in `text`, the value of `flag`, with its `~` written out; None for None, a flag that was left out."""
    from saal_jax.errors import InputError
    from saal_jax.paths import user_path

    if text is None:
        return None
    if not text:
        raise InputError(f"{flag}= is empty: write a path, or leave {flag} out")
    return user_path(text)


def stop_while_loading() -> None:
    """Lets SIGINT and SIGTERM end this process with one line as long as no command handles them; likewise what JAX does
    not accept in a variable of the environment, such as JAX_ENABLE_X64, and a file of a method that says too little.
    """
    _handle(lambda number, _: _received or _end("stopped", number))

    def explain(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        from_jax = issubclass(kind, ValueError) and "jax" in str(error).lower()
        if not from_jax and kind.__name__ != "InputError":
            return sys.__excepthook__(kind, error, traceback)
        _say(f"error: {error}")
        os._exit(2)

    sys.excepthook = explain


def _status(main: Main, argv: list[str] | None) -> int:
    """The exit status of `main(argv)`; what it raises is printed in one line, unless that is a bug."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # and not one that a test has put there
            stream.reconfigure(errors="backslashreplace")  # where the locale has no such letter
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: warn(message)
        try:
            try:
                main(argv)
            except SystemExit:  # of argparse, perhaps after it has printed help
                print(end="", flush=True)
                raise
            print(end="", flush=True)
            return 0
        except Exception as error:
            explained = _explain(error)
            if explained is None:
                raise
    status, line = explained
    if line:
        _say(f"error: {line}")
    try:
        print(end="", flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the interpreter's last flush)
    return status


def _explain(error: Exception) -> tuple[int, str | None] | None:
    """The status and the line for what a user can correct; None for a bug."""
    from saal_jax.errors import InputError

    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, BrokenPipeError):
        return 141, None
    if isinstance(error, OSError):
        where = error.filename or "standard output"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return 1, f"no space left for {where}: free some, then the same command continues"
        return 2, f"{where}: {error.strerror or error}" if error.filename else str(error)
    full = isinstance(error, RuntimeError) and any(
        words in str(error)
        for words in ("RESOURCE_EXHAUSTED", "Out of memory")  # as JAX says it
    )
    if full or isinstance(error, MemoryError):
        return 1, "out of memory: lower config.model.width, config.batch_size or config.image_size"
    return None


def _stoppable(line: str, call: Callable[[], Result]) -> Result:
    """`call()`, where the first SIGINT or SIGTERM raises Stopped and the process ends soon, whatever becomes of that.

    Python drops what is raised in a finalizer or during garbage collection, a library may swallow it, and no handler
    runs during a long call into C. So a thread reads the signals from a pipe that C writes them to, and ends the
    process if the main thread has not unwound in time. That may be at any moment: a run survives even SIGKILL.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone can handle signals
        return call()
    _received.clear()
    over = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def stop(number: int, _: Any) -> None:
        _received.append(number)
        if over.is_set() and len(_received) == 1:
            _end(line, number)
        if len(_received) == 1:  # later ones do not disturb the unwinding
            raise Stopped(number)

    def watch() -> None:
        for number in iter(lambda: os.read(reading, 1), b""):
            if number[0] in _SIGNALS and not over.wait(_GRACE):
                _end(line, number[0])

    def unwatch() -> None:
        over.set()
        signal.set_wakeup_fd(wakeup)
        os.close(writing)
        watcher.join()  # if it is ending the process, for ever
        os.close(reading)

    def dropped(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            unwatch()
            _end(line, _received[0])
        hook(unraisable)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, dropped
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        try:
            _handle(stop)
            return call()
        finally:  # a signal may still raise Stopped in here, once, but in the outer one no more
            over.set()
    finally:
        unwatch()
        if _received:
            _print_stopped(line)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        if _received:
            raise Stopped(_received[0]) from None


def _handle(handler: Callable[[int, Any], Any]) -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGINT is in a background job
            signal.signal(number, handler)


def _say(text: str) -> None:
    """One line to standard error, of any text."""
    print(" ".join(text.split()).encode(errors="backslashreplace").decode(), file=sys.stderr, flush=True)


def _print_stopped(line: str) -> None:
    """The line of a stopped command; on a terminal below the `^C`."""
    print("\n" * os.isatty(2) + line, file=sys.stderr, flush=True)


def _end(line: str, number: int) -> NoReturn:
    """Ends this process at once, with that line."""
    with contextlib.suppress(OSError):
        os.write(2, ("\n" * os.isatty(2) + line + "\n").encode())
    os._exit(128 + number)
