"""Scores a setting in PyTorch, once per line on standard input: `python torch_worker.py loop|func SETTING.npz`.

Needs PyTorch and NumPy only. `loop` does what the released program does.
"""

import sys
from typing import Any

import numpy as np
import torch
from serve import serve, timed
from torch.func import functional_call, grad_and_value, vmap
from torch_functions import RHO
from torch_functions import scores as loop
from torch_networks import device, load
from torch_tasks import CLASSES, TASKS

variant, setting = sys.argv[1:]
stored = np.load(setting)
network = load(stored)
task = answer, loss_fn = TASKS.get(str(stored["model"]), CLASSES)
images = torch.tensor(stored["images"].transpose(0, 3, 1, 2).copy()).to(device)


params = {name: parameter.detach() for name, parameter in network.named_parameters()}
buffers = dict(network.named_buffers())


def loss(params: dict, image: torch.Tensor, label: Any) -> tuple[torch.Tensor, Any]:
    outputs = functional_call(network, (params, buffers), (image[None],))
    label = answer(outputs) if label is None else label
    return loss_fn(outputs, label), label


def score(image: torch.Tensor) -> torch.Tensor:
    gradients, (_, label) = grad_and_value(lambda p: loss(p, image, None), has_aux=True)(params)
    norm = torch.sqrt(sum(((params[name] * g) ** 2).sum() for name, g in gradients.items()))
    moved = {name: params[name] + RHO * params[name] ** 2 * g / (norm + 1e-12) for name, g in gradients.items()}
    return loss(moved, image, label)[0]


def func(chunk: int) -> list[float]:
    batched = vmap(score)
    with torch.no_grad():
        return torch.cat([batched(images[start : start + chunk]) for start in range(0, len(images), chunk)]).tolist()


run = lambda: loop(network, images, task)  # noqa: E731
if variant == "func":
    chunks = [chunk for chunk in (1, 4, 16, 64, 256, 1024) if chunk <= len(images)]
    best = min(chunks, key=lambda chunk: timed(lambda: func(chunk))[1])
    run = lambda: func(best)  # noqa: E731
scores, seconds = timed(run)
serve(lambda: {"seconds": timed(run)[1]}, seconds, scores)
