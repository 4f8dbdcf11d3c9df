"""Scores a setting in PyTorch, once per line on standard input: `python torch_worker.py loop|func SETTING.npz`.

Needs PyTorch and NumPy only. `loop` does what the released program does, written anew: for every image a deep copy of
the network, one backward pass, the adaptive step, one forward pass.
"""

import copy
import json
import resource
import sys
import time

import numpy as np
import torch
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

RHO = 0.05
variant, setting = sys.argv[1:]
stored = np.load(setting)
device = "cuda" if torch.cuda.is_available() else "cpu"


class Block(torch.nn.Module):
    def __init__(self, inputs, features, stride):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.BatchNorm_0 = torch.nn.BatchNorm2d(features)
        self.Conv_1 = torch.nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.BatchNorm_1 = torch.nn.BatchNorm2d(features)
        self.projected = inputs != features
        if self.projected:
            self.Conv_2 = torch.nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.BatchNorm_2 = torch.nn.BatchNorm2d(features)

    def forward(self, x):
        hidden = functional.relu(self.BatchNorm_0(self.Conv_0(x)))
        x = self.BatchNorm_2(self.Conv_2(x)) if self.projected else x
        return functional.relu(self.BatchNorm_1(self.Conv_1(hidden)) + x)


class ResNet18(torch.nn.Module):
    def __init__(self, width, channels):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.BatchNorm_0 = torch.nn.BatchNorm2d(width)
        features = width
        for number in range(8):
            stride = 2 if number in (2, 4, 6) else 1
            setattr(self, f"Block_{number}", Block(features, features * stride, stride))
            features *= stride
        self.Linear_0 = torch.nn.Linear(features, 10)

    def forward(self, x):
        x = functional.relu(self.BatchNorm_0(self.Conv_0(x)))
        for number in range(8):
            x = getattr(self, f"Block_{number}")(x)
        return self.Linear_0(x.mean((2, 3)))


class SmallCNN(torch.nn.Module):
    def __init__(self, width, channels, size):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(channels, width, 3, 1, 1)
        self.Conv_1 = torch.nn.Conv2d(width, 2 * width, 3, 1, 1)
        self.Linear_0 = torch.nn.Linear(2 * width * (size // 4) ** 2, 10)

    def forward(self, x):
        for layer in (self.Conv_0, self.Conv_1):
            x = functional.max_pool2d(functional.relu(layer(x)), 2)
        return self.Linear_0(x.permute(0, 2, 3, 1).flatten(1))  # the order of features in the stored weights


def load():
    width, channels, size = int(stored["width"]), stored["images"].shape[3], stored["images"].shape[1]
    network = ResNet18(width, channels) if str(stored["model"]) == "resnet18" else SmallCNN(width, channels, size)
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    state = {}
    for key in stored.files:
        if "/" in key:
            *path, last = [part for part in key.split("/")[1:] if part != "Dense_0"]
            array = stored[key]
            axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, range(array.ndim))
            state[".".join([*path, names[last]])] = torch.tensor(array.transpose(axes).copy())
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    return network.eval().to(device)


network = load()
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


def timed(fun):
    start = time.perf_counter()
    scores = fun()
    return scores, time.perf_counter() - start


run = loop
if variant == "func":
    chunks = [chunk for chunk in (1, 4, 16, 64, 256, 1024) if chunk <= len(images)]
    best = min(chunks, key=lambda chunk: timed(lambda: func(chunk))[1])
    run = lambda: func(best)  # noqa: E731
scores, seconds = timed(run)
print(json.dumps({"scores": scores, "first_seconds": seconds}), flush=True)
for _ in sys.stdin:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": timed(run)[1], "peak_bytes": peak}), flush=True)
