"""Commands that are stopped at awkward moments, and what they say of what cannot be done: real signals, one line."""

import errno
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from experiments import compare, report, run
from experiments.command import command
from saal_jax.errors import InputError
from tests.toys import RUN

HEAD = """
import asyncio, ctypes, gc, hashlib, os, signal, sys, threading, time, weakref

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
number, received = int(sys.argv[1]), []


def strike():
    os.kill(os.getpid(), number)


def go_on():
    while True:
        time.sleep(1)

"""
COMMAND = """
from experiments.command import command


@command(stopped="stopped; go on")
def main(argv=None):
    {}


sys.exit(main())
"""
# Where a signal strikes: what follows would go on for ever.
STRIKES = {
    "anywhere": "strike(); go_on()",
    "while garbage is collected": """
        gc.callbacks.append(lambda *_: strike())
        gc.collect()
        go_on()""",
    "in a finalizer": """
        class Finalized:
            def __del__(self):
                strike()
        Finalized()
        go_on()""",
    "in a weak reference's callback": """
        held = {1}
        reference = weakref.ref(held, lambda _: strike())
        del held
        go_on()""",
    "in a callback from C": """
        ctypes.CFUNCTYPE(None)(strike)()
        go_on()""",
    "in a long call into C": """
        threading.Timer(0.3, strike).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)""",
    "where a library swallows everything": """
        while True:
            try:
                strike()
                time.sleep(1)
            except BaseException:
                pass""",
    "where a library goes on and returns": """
        try:
            strike()
            time.sleep(1)
        except BaseException:
            pass""",
    "where a library makes an error of its own of it": """
        try:
            strike()
            time.sleep(1)
        except BaseException:
            raise ValueError("INTERNAL") from None""",
    "in an event loop": """
        async def sleep():
            strike()
            await asyncio.sleep(1000)
        asyncio.run(sleep())""",
    "before a long clean-up": """
        try:
            strike()
            go_on()
        finally:
            go_on()""",
}


def started(program, number=signal.SIGTERM, *arguments):
    """The finished process of a program that strikes itself with that signal."""
    program = [sys.executable, "-c", program, str(int(number)), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("where", STRIKES)
def test_a_signal_is_never_lost(where):
    stopped = started(HEAD + COMMAND.format(STRIKES[where]))
    assert (stopped.returncode, stopped.stderr) == (143, "stopped; go on\n")


@pytest.mark.parametrize("where", ["anywhere", "while garbage is collected", "where a library swallows everything"])
def test_neither_is_control_c(where):
    stopped = started(HEAD + COMMAND.format(STRIKES[where]), signal.SIGINT)
    assert (stopped.returncode, stopped.stderr) == (130, "stopped; go on\n")


def test_further_signals_do_not_disturb_the_clean_up():
    body = """
    try:
        strike()
        go_on()
    finally:
        for further in [signal.SIGINT, signal.SIGTERM] * 10:
            os.kill(os.getpid(), further)
        print("cleaned")"""
    stopped = started(HEAD + COMMAND.format(body))
    assert (stopped.returncode, stopped.stderr, stopped.stdout) == (143, "stopped; go on\n", "cleaned\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_command_begins(number, status):
    stopped = started(
        f"{HEAD}\nfrom experiments.command import stop_while_loading\nstop_while_loading(); strike(); go_on()", number
    )
    assert (stopped.returncode, stopped.stderr) == (status, "stopped\n")


def test_a_signal_while_the_command_line_is_read():
    program = """
import argparse
from experiments import run
argparse.ArgumentParser.parse_known_args = lambda *_: (strike(), go_on())
run.end(lambda: run.main(["--config=digits_saal"]))
"""
    stopped = started(HEAD + program)
    line = "stopped; the same command continues after the last finished cycle\n"
    assert (stopped.returncode, stopped.stderr) == (143, line)


# As soon as a cycle is recorded: in the next collection of garbage, or where a library goes on although it is stopped.
AT_ONCE = """
from pathlib import Path
from experiments import run

metrics, how, sent = Path(sys.argv[2], "metrics.csv"), sys.argv[3], []


def striking(*_):
    if not sent and metrics.exists():
        sent.append(True)
        strike()


class Bars(run._Bars):
    def __call__(self, *arguments):
        super().__call__(*arguments)
        try:
            striking()
        except BaseException:
            pass


if how == "collection":
    gc.callbacks.append(striking)
else:
    run._Bars = Bars
run.end(lambda: run.main([f"--workdir={sys.argv[2]}", *sys.argv[4:]]))
"""
TINY = [*RUN, *"--config.acquisition.name=random --config.seeds=1 --config.cycles=3 --config.epochs=2".split()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert run.main([*TINY, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.mark.slow  # two runs that are killed are in test_interrupted.py
@pytest.mark.parametrize("how", ["collection", "swallowed"])
def test_no_cycle_is_recorded_after_a_signal_and_the_run_continues_to_the_same_bytes(how, uninterrupted, tmp_path):
    stopped = started(HEAD + AT_ONCE, signal.SIGTERM, tmp_path / "run", how, *TINY)
    line = "stopped; the same command continues after the last finished cycle\n"
    assert (stopped.returncode, stopped.stderr) == (143, line)
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2  # a head and one cycle
    assert run.main([*TINY, f"--workdir={tmp_path / 'run'}"]) == 0
    for name in ("metrics.csv", "selections.csv", "initial_labels.csv", "class_accuracies.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (uninterrupted / name).read_bytes()


def state():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return handlers, wakeup, sys.unraisablehook, warnings.showwarning, threading.active_count(), os.listdir("/dev/fd")


@command(stopped="stopped; go on")
def calling(function):
    function()


def test_nothing_leaks_from_one_command_to_the_next(capsys):
    def strike():
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(100)

    before = state()
    assert calling(lambda: None) == 0
    assert calling(strike) == 143
    assert calling(lambda: None) == 0  # what stopped the one before is forgotten
    with pytest.raises(ZeroDivisionError):
        calling(lambda: 1 / 0)
    assert state() == before
    assert capsys.readouterr().err == "stopped; go on\n"


def test_a_command_can_run_outside_the_main_thread(capsys):
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(calling(lambda: print("done"))))
    thread.start()
    thread.join()
    assert statuses == [0] and capsys.readouterr().out == "done\n"


def raising(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("three\n  lines\nof text"), 2, "error: three lines of text"),
        (InputError("b\udcffd"), 2, r"error: b\udcffd"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 1, "error: no space left for a/b: free some, then"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, "error: no space left for standard output: free some, then"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "error: a: Permission denied"),
        (MemoryError(), 1, "error: out of memory: lower"),
        (RuntimeError("RESOURCE_EXHAUSTED: Failed to allocate"), 1, "error: out of memory: lower"),
        (RuntimeError("INTERNAL: Out of memory allocating 1 bytes"), 1, "error: out of memory: lower"),
        (KeyboardInterrupt(), 130, "stopped; go on"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, status, line, capsys):
    assert calling(raising(error)) == status
    message = capsys.readouterr().err
    assert message.startswith(line) and message.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    for error in (RuntimeError("INTERNAL: of a bug"), ValueError("a bug")):
        with pytest.raises(type(error), match="a bug"):
            calling(raising(error))


def test_a_warning_is_one_line(capsys):
    def function():
        warnings.warn("two\nlines", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert calling(function) == 0
    assert capsys.readouterr().err == "warning: two lines\n"


@pytest.mark.parametrize(
    "body",
    ["sys.exit(print('help'))", *(pytest.param(f"print('x' * {n})", marks=pytest.mark.slow) for n in (10, 10**6))],
)
def test_output_that_nobody_reads_or_that_does_not_fit(body):
    program = HEAD + COMMAND.format(body)
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", program, "15"], stdout=full, stderr=subprocess.PIPE, text=True)
    line = "error: no space left for standard output: free some, then the same command continues\n"
    assert (ended.returncode, ended.stderr) == (1, line)
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-c", program, "15"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("main", [run.main, compare.main])
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--workdir=", "--workdir= is empty: write a path, or leave --workdir out"),
        ("--data_dir=", "--data_dir= is empty: write a path, or leave --data_dir out"),
        ("--config=", "--config=: there is no such config"),
        ("--workdir=b\udcffd", r"'b\udcffd': no file can be called that; write another name"),
        ("--workdir=~nosuchuser/x", "~nosuchuser/x: there is no such home folder; write the path out"),
    ],
)
def test_a_path_that_is_none_is_refused(main, argument, message, capsys):
    assert main(["--config=digits_saal", argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--picture=", "results/none"], ["~nosuchuser/x"], [""]])
def test_a_report_refuses_such_paths_too(arguments, capsys):
    assert report.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("module", ["run", pytest.param("compare", marks=pytest.mark.slow)])
def test_a_platform_that_is_not_there_is_one_line(module, tmp_path):
    program = [sys.executable, "-m", f"experiments.{module}", "--config=digits_saal", f"--workdir={tmp_path / 'run'}"]
    environment = {**os.environ, "JAX_PLATFORMS": "nonsense"}
    refused = subprocess.run(program, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: JAX_PLATFORMS=nonsense: ") and refused.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
