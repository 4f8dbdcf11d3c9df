"""Scores a setting in PyTorch, once per line on standard input: `python torch_worker.py loop|func SETTING.npz`.

Needs PyTorch and NumPy only. `loop` does what the released program does, written anew: for every image a deep copy of
the network, one backward pass, the adaptive step, one forward pass.
"""

import copy
import sys

import numpy as np
import torch
from serve import serve, timed
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional
from torch_networks import device, load

RHO = 0.05
variant, setting = sys.argv[1:]
stored = np.load(setting)
network = load(stored)
images = torch.tensor(stored["images"].transpose(0, 3, 1, 2).copy()).to(device)


def loop():
    scores = []
    for image in images:
        perturbed = copy.deepcopy(network)
        logits = perturbed(image[None])
        label = logits.argmax(1)
        functional.cross_entropy(logits, label).backward()
        with torch.no_grad():
            norm = torch.sqrt(sum(((p.abs() * p.grad) ** 2).sum() for p in perturbed.parameters()))
            for p in perturbed.parameters():
                p += RHO * p**2 * p.grad / (norm + 1e-12)
            scores.append(functional.cross_entropy(perturbed(image[None]), label).item())
    return scores


params = {name: parameter.detach() for name, parameter in network.named_parameters()}
buffers = dict(network.named_buffers())


def loss(params, image, label):
    logits = functional_call(network, (params, buffers), (image[None],))
    label = logits.argmax(1) if label is None else label
    return functional.cross_entropy(logits, label), label


def score(image):
    gradients, (_, label) = grad_and_value(lambda p: loss(p, image, None), has_aux=True)(params)
    norm = torch.sqrt(sum(((params[name] * g) ** 2).sum() for name, g in gradients.items()))
    moved = {name: params[name] + RHO * params[name] ** 2 * g / (norm + 1e-12) for name, g in gradients.items()}
    return loss(moved, image, label)[0]


def func(chunk):
    batched = vmap(score)
    with torch.no_grad():
        return torch.cat([batched(images[start : start + chunk]) for start in range(0, len(images), chunk)]).tolist()


run = loop
if variant == "func":
    chunks = [chunk for chunk in (1, 4, 16, 64, 256, 1024) if chunk <= len(images)]
    best = min(chunks, key=lambda chunk: timed(lambda: func(chunk))[1])
    run = lambda: func(best)  # noqa: E731
scores, seconds = timed(run)
serve(lambda: {"seconds": timed(run)[1]}, seconds, scores)
