"""What a PyTorch program does, written anew: augmentation, training steps, and the score as it was released."""

import copy
import functools

import torch
from torch.nn import functional
from torch_tasks import CLASSES

PADDING, RHO = 4, 0.05


def crop_and_flip(batch: torch.Tensor) -> torch.Tensor:
    size = batch.shape[-1]
    padded = functional.pad(batch, (PADDING,) * 4)
    offsets, flips = torch.randint(2 * PADDING + 1, (len(batch), 2)).tolist(), (torch.rand(len(batch)) < 0.5).tolist()
    cropped = []
    for image, (top, left), flip in zip(padded, offsets, flips, strict=True):
        image = image[:, top : top + size, left : left + size]
        cropped.append(image.flip(-1) if flip else image)
    return torch.stack(cropped)


def gradient(network: torch.nn.Module, batch: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    loss = functional.cross_entropy(network(batch), targets)
    loss.backward()
    return loss


def adam(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    loss = gradient(network, batch, targets)
    optimizer.step()
    return loss


def sam(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
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


STEPS = {  # the step, and the optimizer that it calls
    "adam": (adam, torch.optim.Adam),
    "sam": (sam, functools.partial(torch.optim.SGD, momentum=0.9)),
}


def scores(network: torch.nn.Module, images: torch.Tensor, task: tuple = CLASSES) -> list[float]:
    """A deep copy of the network for every image, one backward pass, the adaptive step, one forward pass."""
    answer, loss_fn = task
    losses = []
    for image in images:
        perturbed = copy.deepcopy(network)
        outputs = perturbed(image[None])
        label = answer(outputs)
        loss_fn(outputs, label).backward()
        with torch.no_grad():
            norm = torch.sqrt(sum(((p.abs() * p.grad) ** 2).sum() for p in perturbed.parameters()))
            for p in perturbed.parameters():
                p += RHO * p**2 * p.grad / (norm + 1e-12)
            losses.append(loss_fn(perturbed(image[None]), label).item())
    return losses
