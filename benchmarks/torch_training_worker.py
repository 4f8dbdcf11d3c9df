"""Trains a setting in PyTorch: `python torch_training_worker.py adam|sam SETTING.npz`. Needs PyTorch and NumPy only."""

import copy
import sys

import numpy as np
import torch
from serve import serve, timed
from torch.nn import functional
from torch_networks import device, load

PADDING, RHO = 4, 0.05
optimizer, setting = sys.argv[1:]
stored = np.load(setting)
rate = float(stored["learning_rate"])
images = torch.tensor(stored["images"].transpose(0, 3, 1, 2).copy()).to(device)
labels, batches = (torch.tensor(stored[key]).to(device) for key in ("labels", "batches"))


def crop_and_flip(batch):
    size = batch.shape[-1]
    padded = functional.pad(batch, (PADDING,) * 4)
    offsets, flips = torch.randint(2 * PADDING + 1, (len(batch), 2)).tolist(), (torch.rand(len(batch)) < 0.5).tolist()
    cropped = []
    for image, (top, left), flip in zip(padded, offsets, flips, strict=True):
        image = image[:, top : top + size, left : left + size]
        cropped.append(image.flip(-1) if flip else image)
    return torch.stack(cropped)


def gradient(network, batch, targets):
    network.zero_grad()
    loss = functional.cross_entropy(network(batch), targets)
    loss.backward()
    return loss


def adam(network, optimizer, batch, targets):
    loss = gradient(network, batch, targets)
    optimizer.step()
    return loss


def sam(network, optimizer, batch, targets):
    gradient(network, batch, targets)
    parameters = list(network.parameters())
    norm = torch.stack([p.grad.norm() for p in parameters]).norm()
    with torch.no_grad():
        moves = [RHO / (norm + 1e-12) * p.grad for p in parameters]
        for p, move in zip(parameters, moves, strict=True):
            p += move
    loss = gradient(network, batch, targets)
    with torch.no_grad():
        for p, move in zip(parameters, moves, strict=True):
            p -= move
    optimizer.step()
    return loss


STEPS = {
    "adam": (adam, lambda parameters: torch.optim.Adam(parameters, rate)),
    "sam": (sam, lambda parameters: torch.optim.SGD(parameters, rate, momentum=0.9)),
}


def starting():
    network = copy.deepcopy(loaded).train()
    step, make_optimizer = STEPS[optimizer]
    made = make_optimizer(network.parameters())

    def one_step(indices, augment):
        batch = (augment(images[indices]).float() / 255 - 0.5) / 0.5
        return step(network, made, batch, labels[indices])

    return one_step


def run(num_steps):
    for indices in batches[:num_steps]:
        loss = step(indices, crop_and_flip)
    return loss.item()  # waits for the device


loaded = load(stored)
unaugmented = starting()
losses = [unaugmented(batches[0], lambda batch: batch).item() for _ in range(2)]
step = starting()
_, seconds = timed(lambda: run(1))
serve(lambda: {"seconds": timed(lambda: run(len(batches)))[1]}, seconds, losses)
