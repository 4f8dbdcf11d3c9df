"""The same experiment in PyTorch, cycle by cycle: `python torch_cycle_worker.py SETTING.npz`.

Needs PyTorch and NumPy only. Score and training are plain loops, as in the released program.
"""

import copy
import sys
from collections.abc import Callable

import numpy as np
import torch
from serve import serve, timed
from torch_functions import STEPS, crop_and_flip, scores
from torch_networks import device, load

COMPARED, EVALUATION_CHUNK = 64, 500
stored = np.load(sys.argv[1])
initial = load(stored)
generator = np.random.default_rng(0)
images, test_images = (torch.tensor(stored[key].transpose(0, 3, 1, 2).copy()) for key in ("images", "test_images"))
labels, test_labels = (torch.tensor(stored[key], dtype=torch.long) for key in ("labels", "test_labels"))
mean, std = (torch.tensor(stored[key])[:, None, None] for key in ("mean", "std"))
step, make_optimizer = STEPS[str(stored["optimizer"])]
query_size, epochs, batch_size = (int(stored[key]) for key in ("query_size", "epochs", "batch_size"))
labelled = stored["labelled"].copy()


def normalize(batch: torch.Tensor) -> torch.Tensor:
    return ((batch.float() / 255 - mean) / std).to(device)


def starting() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = copy.deepcopy(initial)
    return network, make_optimizer(network.parameters(), float(stored["learning_rate"]))


def kmeans_plusplus(values: np.ndarray) -> list[int]:
    """Positions of `query_size` values, the largest first, then in proportion to the squared distance."""
    chosen = [int(values.argmax())]
    distances = np.full(len(values), np.inf)
    while len(chosen) < query_size:
        distances = np.minimum(distances, (values - values[chosen[-1]]) ** 2)
        chosen.append(int(generator.choice(len(values), p=distances / distances.sum())))
    return chosen


def query() -> None:
    candidates = generator.permutation(np.flatnonzero(~labelled))[: int(stored["pool_subset"])]
    values = np.array(scores(network.eval(), normalize(images[candidates])))
    labelled[candidates[kmeans_plusplus(values)]] = True


def train() -> None:
    global network, optimizer
    if not stored["warm_start"]:
        network, optimizer = starting()
    network.train()
    for _ in range(epochs):
        for indices in torch.tensor(generator.permutation(np.flatnonzero(labelled))).split(batch_size):
            batch = crop_and_flip(images[indices]) if stored["augmented"] else images[indices]
            step(network, optimizer, normalize(batch), labels[indices].to(device)).item()


@torch.no_grad()
def test() -> float:
    network.eval()
    predicted = [network(normalize(chunk)).argmax(1).cpu() for chunk in test_images.split(EVALUATION_CHUNK)]
    return 100 * (torch.cat(predicted) == test_labels).float().mean().item()


def turn(phases: tuple[Callable, ...] = (query, train, test)) -> dict:
    answer = {}
    for phase in phases:
        result, answer[phase.__name__] = timed(phase)
    return {**answer, "seconds": sum(answer.values()), "test_accuracy": result}


network, optimizer = starting()
compared = scores(initial, normalize(images[:COMPARED]))
_, seconds = timed(lambda: (turn((train, test)), turn()))
serve(turn, seconds, compared)
