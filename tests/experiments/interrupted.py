"""Runs the command and stops it from inside: `python interrupted.py SIGNAL PHASE CYCLE ARGUMENTS...`.

PHASE is where the signal strikes in that cycle: train, test, score, select (scored, nothing labelled yet), or save
(as soon as Orbax's unfinished folder is on disk). CYCLE counts the cycles of this process.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from experiments import run
from saal_jax import loop

number, phase, at_cycle, arguments = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
finished = 0


def strike():
    os.kill(os.getpid(), number)
    time.sleep(60)  # a handled signal arrives here


def watch(folder):
    while not list(Path(folder).rglob("*.orbax-checkpoint-tmp")):
        time.sleep(0.0005)
    strike()


class Bars(run._Bars):
    def __call__(self, name, done, total):
        super().__call__(name, done, total)
        if (name, finished) == (phase, at_cycle):
            strike()


def predict(*rest):
    if (phase, finished) == ("select", at_cycle):  # the pseudo labels of what was chosen
        strike()
    return plain_predict(*rest)


def save(directory, *rest):
    if (phase, finished) == ("save", at_cycle):
        threading.Thread(target=watch, args=[directory], daemon=True).start()
    plain_save(directory, *rest)


def on_first(function, *rest):
    global finished
    result = plain_on_first(function, *rest)
    finished += function is run._record
    return result


plain_predict, loop.predict = loop.predict, predict
plain_save, run.checkpoint.save = run.checkpoint.save, save
plain_on_first, run.on_first = run.on_first, on_first
run._Bars = Bars
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
signal.alarm(300)
run.end(lambda: run.main(arguments))
