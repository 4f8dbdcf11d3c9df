"""A run on a million images, in a process of its own, so that its memory is the run's."""

import csv
import subprocess
import sys
import zipfile

import numpy as np
import pytest

SIZE, CLASSES = 1_000_000, 10

RUN = """
import sys, threading, time
from experiments.run import main

def anonymous():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon"))

most = 0

def watch():
    global most
    while True:
        most = max(most, anonymous())
        time.sleep(0.05)

threading.Thread(target=watch, daemon=True).start()
begun = time.perf_counter()
status = main(sys.argv[2:])
seconds = time.perf_counter() - begun
print(f"{seconds:.0f} s, at most {most / 2**20:.0f} MiB of anonymous memory", file=sys.stderr)
sys.exit(status or int(most > float(sys.argv[1])))
"""


def write(path, size):
    """Noise, darker and brighter by class, as an `.npz` file that is written piece by piece."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for split, count in (("train", size), ("test", 1000)):
            labels = np.arange(count) % CLASSES
            with archive.open(f"{split}_labels.npy", "w") as file:
                np.lib.format.write_array(file, labels)
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, 32, 32, 3)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, count, 10_000):
                    block = generator.integers(0, 128, (len(labels[start : start + 10_000]), 32, 32, 3), np.uint8)
                    block += (12 * labels[start : start + 10_000]).astype(np.uint8)[:, None, None, None]
                    file.write(block)


@pytest.mark.slow
def test_a_million_images_in_less_memory_than_they_take(tmp_path, monkeypatch):
    write(tmp_path / "million.npz", SIZE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS", raising=False)
    arguments = ["--config=digits_saal", f"--config.dataset={tmp_path / 'million.npz'}", "--config.seeds=1"]
    arguments += [
        "--config.cycles=2",
        "--config.epochs=5",
        "--config.model.width=4",
        "--config.max_resident=1000000000",
    ]
    arguments += [f"--workdir={tmp_path / 'run'}"]
    subprocess.run([sys.executable, "-c", RUN, "1.5e9", *arguments], check=True)
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        assert [row["num_labelled"] for row in csv.DictReader(file)] == ["20", "30", "40"]
    for path in (tmp_path / "million.npz", *(tmp_path / "cache" / "saal_jax").iterdir()):
        path.unlink()  # pytest would keep them
