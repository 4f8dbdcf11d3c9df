"""Trains a setting in PyTorch: `python torch_training_worker.py adam|sam SETTING.npz`. Needs PyTorch and NumPy only."""

import copy
import sys
from collections.abc import Callable

import numpy as np
import torch
from serve import serve, timed
from torch_functions import STEPS, crop_and_flip
from torch_networks import device, load

optimizer, setting = sys.argv[1:]
stored = np.load(setting)
rate = float(stored["learning_rate"])
images = torch.tensor(stored["images"].transpose(0, 3, 1, 2).copy()).to(device)
labels, batches = (torch.tensor(stored[key]).to(device) for key in ("labels", "batches"))


def starting() -> Callable:
    network = copy.deepcopy(loaded).train()
    step, make_optimizer = STEPS[optimizer]
    made = make_optimizer(network.parameters(), rate)

    def one_step(indices: torch.Tensor, augment: Callable) -> torch.Tensor:
        batch = (augment(images[indices]).float() / 255 - 0.5) / 0.5
        return step(network, made, batch, labels[indices])

    return one_step


def run(num_steps: int) -> float:
    for indices in batches[:num_steps]:
        loss = step(indices, crop_and_flip)
    return loss.item()  # waits for the device


loaded = load(stored)
unaugmented = starting()
losses = [unaugmented(batches[0], lambda batch: batch).item() for _ in range(2)]
step = starting()
_, seconds = timed(lambda: run(1))
serve(lambda: {"seconds": timed(lambda: run(len(batches)))[1]}, seconds, losses)
