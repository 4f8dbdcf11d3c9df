import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PATIENCE = 120  # seconds, far above need: what takes longer hangs


class Child:
    """A process that is given inputs, begun anew after one that it did not survive."""

    def __init__(self, home):
        self.home, self.process = home, None

    def ask(self, *question):
        if self.process is None:
            self.log = tempfile.TemporaryFile()
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("child.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                env=os.environ | {"HOME": self.home, "XDG_CACHE_HOME": self.home, "JAX_PLATFORMS": "cpu"},
            )
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        in_time, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if in_time else b""
        if not line:
            self.end()
            self.log.seek(0)
            why = self.log.read().decode(errors="replace")[-2000:] if in_time else f"no answer in {PATIENCE} s"
            pytest.fail(f"{question} ended the process: {why}")
        answer = json.loads(line)
        if "refused" in answer:
            assert len(answer["refused"].splitlines()) == 1
        assert "crashed" not in answer, answer["crashed"]
        return answer

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process = None


@pytest.fixture(scope="session")
def child(tmp_path_factory):
    child = Child(str(tmp_path_factory.mktemp("home")))
    yield child
    child.end()


@pytest.fixture
def folder():
    """A function that makes a new folder for each example."""
    with tempfile.TemporaryDirectory() as above:
        yield lambda: tempfile.mkdtemp(dir=above)
