"""What the networks predict, in PyTorch: `(answer, loss)` for the outputs of one image; needs PyTorch only.

`answer(outputs) -> label` is the network's own, `loss(outputs, label) -> []`. All shapes are fixed, for `torch.func`.
"""

import torch
from torch.nn import functional

MAX_BOXES, THRESHOLD, OVERLAP = 30, 0.3, 0.5

Outputs = tuple[torch.Tensor, torch.Tensor]  # heat [1, C, h, w] and boxes [1, 4, h, w]
Boxes = tuple[torch.Tensor, torch.Tensor]  # corners [K, 4] and classes [K], -1 of none


def most_likely(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(1)


def decoded(outputs: Outputs) -> Boxes:
    """The boxes at the peaks of the heat map that score above the threshold, the best of those that overlap."""
    heat, boxes = (leaf[0].detach() for leaf in outputs)
    _, height, width = heat.shape
    scores = heat.sigmoid()
    around = functional.max_pool2d(scores[None], 3, 1, 1)[0]
    scores, places = torch.where(scores == around, scores, 0).flatten().topk(MAX_BOXES)
    classes, cell = places // (height * width), places % (height * width)
    dx, dy, w, h = boxes.flatten(1)[:, cell]
    x, y = (cell % width + 0.5 + dx) / width, (cell // width + 0.5 + dy) / height
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).clamp(0, 1)
    low = torch.maximum(corners[:, None, :2], corners[None, :, :2])
    high = torch.minimum(corners[:, None, 2:], corners[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    rivals = common > OVERLAP * (areas[:, None] + areas[None] - common)
    behind = torch.ones(MAX_BOXES, MAX_BOXES, dtype=torch.bool, device=heat.device).triu(1)
    rivals = rivals & (classes[:, None] == classes[None]) & behind
    keep = scores > THRESHOLD
    for place in range(MAX_BOXES):
        keep = keep & ~(keep[place] & rivals[place])
    return corners, torch.where(keep, classes, -1)


def boxes_loss(outputs: Outputs, label: Boxes) -> torch.Tensor:
    """The focal loss of the heat map and the distance of the boxes, by the number of boxes."""
    (heat, boxes), (corners, classes) = (leaf[0] for leaf in outputs), label
    num_classes, height, width = heat.shape
    there = classes >= 0
    grid = corners.new_tensor([width, height])
    centres, sizes = (corners[:, :2] + corners[:, 2:]) / 2 * grid, (corners[:, 2:] - corners[:, :2]) * grid
    cells = torch.minimum(centres.floor(), grid - 1)
    spread = (0.09 * sizes).clamp(min=1e-3)
    along_x = torch.arange(width, device=heat.device)[None] - cells[:, :1]
    along_y = torch.arange(height, device=heat.device)[None] - cells[:, 1:]
    along_x, along_y = (
        (-((along / spread[:, [axis]]) ** 2) / 2).exp() for axis, along in enumerate((along_x, along_y))
    )
    of_class = there[:, None] & (classes[:, None] == torch.arange(num_classes, device=heat.device)[None])
    peaks = along_y[:, :, None] * along_x[:, None]
    targets = torch.where(of_class[:, :, None, None], peaks[:, None], 0).amax(0)
    log_p, log_not_p = functional.logsigmoid(heat), functional.logsigmoid(-heat)
    at_peak = -(log_not_p.exp() ** 2) * log_p
    elsewhere = -((1 - targets) ** 4) * log_p.exp() ** 2 * log_not_p
    focal = torch.where(targets == 1, at_peak, elsewhere).sum()
    predicted = boxes.flatten(1)[:, (cells[:, 1] * width + cells[:, 0]).long()].T
    predicted = torch.cat([predicted[:, :2], predicted[:, 2:] * grid], 1)
    differences = (predicted - torch.cat([centres - cells - 0.5, sizes], 1)).abs()
    distances = (differences - 1e-3).clamp(min=0) @ corners.new_tensor([1, 1, 0.1, 0.1])
    return (focal + torch.where(there, distances, 0).sum()) / there.sum().clamp(min=1)


CLASSES = most_likely, functional.cross_entropy  # one of an image, or of each of its pixels: the mean
TASKS = {"center_net": (decoded, boxes_loss)}
