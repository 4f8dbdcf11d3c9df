"""The networks in PyTorch; needs PyTorch and NumPy only. Layers are named as in the stored weights."""

from collections.abc import Iterator

import torch
from numpy.lib.npyio import NpzFile
from torch.nn import functional

device = "cuda" if torch.cuda.is_available() else "cpu"


class Block(torch.nn.Module):
    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.BatchNorm_0 = torch.nn.BatchNorm2d(features)
        self.Conv_1 = torch.nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.BatchNorm_1 = torch.nn.BatchNorm2d(features)
        self.projected = inputs != features
        if self.projected:
            self.Conv_2 = torch.nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.BatchNorm_2 = torch.nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.BatchNorm_0(self.Conv_0(x)))
        x = self.BatchNorm_2(self.Conv_2(x)) if self.projected else x
        return functional.relu(self.BatchNorm_1(self.Conv_1(hidden)) + x)


class ResNet18(torch.nn.Module):
    def __init__(self, width: int, channels: int):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.BatchNorm_0 = torch.nn.BatchNorm2d(width)
        features = width
        for number in range(8):
            stride = 2 if number in (2, 4, 6) else 1
            setattr(self, f"Block_{number}", Block(features, features * stride, stride))
            features *= stride
        self.Linear_0 = torch.nn.Linear(features, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.BatchNorm_0(self.Conv_0(x)))
        for number in range(8):
            x = getattr(self, f"Block_{number}")(x)
        return self.Linear_0(x.mean((2, 3)))


class SmallCNN(torch.nn.Module):
    def __init__(self, width: int, channels: int, size: int):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(channels, width, 3, 1, 1)
        self.Conv_1 = torch.nn.Conv2d(width, 2 * width, 3, 1, 1)
        self.Linear_0 = torch.nn.Linear(2 * width * (size // 4) ** 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.Conv_0, self.Conv_1):
            x = functional.max_pool2d(functional.relu(layer(x)), 2)
        return self.Linear_0(x.permute(0, 2, 3, 1).flatten(1))  # the order of features in the stored weights


class Convolution(torch.nn.Module):
    def __init__(self, inputs: int, features: int, stride: int = 1):
        super().__init__()
        self.Conv_0 = torch.nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.GroupNorm_0 = torch.nn.GroupNorm(features // 4, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.GroupNorm_0(self.Conv_0(x)))


class CenterNet(torch.nn.Module):
    """Of images whose sides divide by four: heat `[B, C, h, w]` and boxes `[B, 4, h, w]`."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        one, two, three = width, 2 * width, 3 * width
        sizes = [(channels, one, 2), (one, one), (one, two, 2), (two, two), (two, three, 2), (three, three)]
        _add(self, [*sizes, (three, two), (two, two), (two, two)])
        self.Conv_0, self.Conv_1 = torch.nn.Conv2d(two, 10, 1), torch.nn.Conv2d(two, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        layers, stages = _convolutions(self), []
        for _ in range(3):
            first, second = next(layers), next(layers)
            x = second(first(x))
            stages.append(x)
        x = doubled(next(layers)(x), stages[1]) + stages[1]
        heat, boxes = self.Conv_0(next(layers)(x)), self.Conv_1(next(layers)(x))
        sizes = boxes[:, 2:].exp() / boxes.new_tensor([boxes.shape[3], boxes.shape[2]])[:, None, None]
        return heat, torch.cat([boxes[:, :2], sizes], 1)


class UNet(torch.nn.Module):
    """Logits `[B, C, H, W]`."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        one, two, three = width, 2 * width, 3 * width
        sizes = [(one, one), (channels, one, 2), (two, two), (one, two, 2), (three, three), (two, three, 2)]
        _add(self, [*sizes, (two, two), (three + two, two), (one, one), (two + one, one)])
        self.Conv_0 = torch.nn.Conv2d(one, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layers, size, stages = _convolutions(self), x.shape[2:], []
        for _ in range(3):
            second, first = next(layers), next(layers)  # in the stored weights the second comes first
            x = second(first(x))
            stages.append(x)
        for skip in reversed(stages[:-1]):
            second, first = next(layers), next(layers)
            x = second(first(torch.cat([doubled(x, skip), skip], 1)))
        logits = functional.interpolate(self.Conv_0(x), scale_factor=2, mode="bilinear")
        return logits[..., : size[0], : size[1]]


def _add(network: torch.nn.Module, sizes: list[tuple]) -> None:
    for number, size in enumerate(sizes):
        network.add_module(f"Convolution_{number}", Convolution(*size))


def _convolutions(network: torch.nn.Module) -> Iterator[Convolution]:
    return (layer for layer in network.children() if isinstance(layer, Convolution))


def doubled(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")[..., : like.shape[2], : like.shape[3]]


NETWORKS = {"resnet18": ResNet18, "center_net": CenterNet, "unet": UNet}


def load(stored: NpzFile) -> torch.nn.Module:
    """The network of a setting's file, with its weights, in evaluation mode."""
    width, channels, size = int(stored["width"]), stored["images"].shape[3], stored["images"].shape[1]
    name = str(stored["model"])
    network = SmallCNN(width, channels, size) if name == "small_cnn" else NETWORKS[name](width, channels)
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
