"""The detector, the segmenter and their scores against PyTorch in float64, written anew there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import max_perturbed_loss
from saal_jax.models import center_net, unet
from saal_jax.tasks.detection import detection
from saal_jax.tasks.segmentation import segmentation

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its networks are the oracle here")
functional = torch.nn.functional
torch.set_num_threads(1)

CLASSES, WIDTH, SHAPE = 3, 4, (15, 22, 3)  # of sides that divide by nothing
OVERLAP, MOST = 0.5, 20


def convolution(layer, x, stride=1):
    """3x3, normalised in groups of four features, ReLU."""
    x = functional.conv2d(x, layer["Conv_0"]["kernel"].permute(3, 2, 0, 1), stride=stride, padding=1)
    norm = layer["GroupNorm_0"]
    return functional.relu(functional.group_norm(x, x.shape[1] // 4, norm["scale"], norm["bias"], eps=1e-5))


def pointwise(layer, x):
    return functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer["bias"])


def twice(x, like):
    return functional.interpolate(x, scale_factor=2, mode="nearest")[..., : like.shape[2], : like.shape[3]]


def detector(params, image):
    """Heat `[h, w, C]` and boxes `[h, w, 4]` of one image."""
    layers = (params[f"Convolution_{number}"] for number in range(len(params)))
    x = image.permute(2, 0, 1)[None]
    x = functional.interpolate(x, size=[-(-side // 4) * 4 for side in x.shape[2:]], mode="bilinear")
    stages = []
    for _ in range(3):
        x = convolution(next(layers), x, 2)
        x = convolution(next(layers), x)
        stages.append(x)
    x = twice(convolution(next(layers), x), stages[1]) + stages[1]
    heat, boxes = (pointwise(params[f"Conv_{number}"], convolution(next(layers), x))[0] for number in range(2))
    sizes = boxes[2:].exp() / torch.tensor([boxes.shape[2], boxes.shape[1]])[:, None, None]
    return heat.permute(1, 2, 0), torch.cat([boxes[:2], sizes]).permute(1, 2, 0)


def segmenter(params, image):
    """Logits `[H, W, C]` of one image."""
    layers = (params[f"Convolution_{number}"] for number in range(len(params)))
    x, stages = image.permute(2, 0, 1)[None], []
    for _ in range(3):
        x = convolution(next(layers), convolution(next(layers), x, 2))  # the names count from the outer one
        stages.append(x)
    for skip in reversed(stages[:-1]):
        x = torch.cat([twice(x, skip), skip], 1)
        x = convolution(next(layers), convolution(next(layers), x))
    x = functional.interpolate(pointwise(params["Conv_0"], x), scale_factor=2, mode="bilinear")[0]
    return x[:, : image.shape[0], : image.shape[1]].permute(1, 2, 0)


def overlap(a, b):
    sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    common = sides.prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def decoded(outputs, threshold):
    """The boxes above a threshold: a list of (corners, class), the best of those that overlap."""
    heat, boxes = (leaf.detach() for leaf in outputs)
    height, width, _ = heat.shape
    scores = heat.sigmoid()
    around = functional.max_pool2d(scores.permute(2, 0, 1)[None], 3, 1, 1)[0].permute(1, 2, 0)
    peaks = ((scores == around) & (scores > threshold)).nonzero().tolist()
    kept = []
    for row, column, category in sorted(peaks, key=lambda peak: -scores[tuple(peak)]):
        dx, dy, w, h = boxes[row, column]
        x, y = (column + 0.5 + dx) / width, (row + 0.5 + dy) / height
        corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2]).clamp(0, 1)
        if all(category != other or overlap(corners, box) <= OVERLAP for box, other in kept):
            kept.append((corners, category))
    return kept


def boxes_loss(outputs, label):
    heat, boxes = outputs
    height, width, _ = heat.shape
    targets, distance = torch.zeros_like(heat), torch.zeros(())
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    for corners, category in label:
        x0, y0, x1, y1 = corners * torch.tensor([width, height, width, height])
        x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        column, row = int(x.clamp(0, width - 1)), int(y.clamp(0, height - 1))
        spread_x, spread_y = (0.09 * w).clamp(min=1e-3), (0.09 * h).clamp(min=1e-3)
        peak = (-(((columns - column) / spread_x) ** 2 + ((rows - row) / spread_y) ** 2) / 2).exp()
        targets[..., category] = torch.maximum(targets[..., category], peak)
        true = torch.stack([x - column - 0.5, y - row - 0.5, w / width, h / height])
        weights = torch.tensor([1, 1, 0.1, 0.1])
        units = torch.tensor([1, 1, width, height])
        distance = distance + (weights * ((boxes[row, column] - true) * units).abs().sub(1e-3).clamp(min=0)).sum()
    p = heat.sigmoid()
    peak = -((1 - p) ** 2) * functional.logsigmoid(heat)
    rest = -((1 - targets) ** 4) * p**2 * functional.logsigmoid(-heat)
    return (torch.where(targets == 1, peak, rest).sum() + distance) / max(1, len(label))


def pixels_loss(outputs, label):
    return functional.cross_entropy(outputs.permute(2, 0, 1)[None], label[None], reduction="none")[0]


def scores(network, loss_fn, answer, params, images, adaptive):
    """Of each image alone: its answer, one backward pass, the step, one forward pass."""
    losses = []
    for image in torch.tensor(images):
        weights = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), params)
        outputs = network(weights, image)
        label = answer(outputs)
        leaves = jax.tree.leaves(weights)
        # Without a box nothing reaches the head of the boxes: zeros.
        gradients = torch.autograd.grad(loss_fn(outputs, label).mean(), leaves, materialize_grads=True)
        with torch.no_grad():
            pairs = list(zip(leaves, gradients, strict=True))
            norm = sum(((p.abs() if adaptive else 1) * g).square().sum() for p, g in pairs).sqrt() + 1e-12
            for p, g in pairs:
                p += 0.05 * (p**2 if adaptive else 1) * g / norm
            losses.append(loss_fn(network(weights, image), label).numpy())
    return np.array(losses)


@pytest.fixture(autouse=True)
def _in_float64():
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(torch.float32)


@functools.cache
def setting(kind):
    """A network's weights, moved from the trivial ones that some start with, and images."""
    model = {"detector": center_net, "segmenter": unet}[kind](CLASSES, width=WIDTH)
    images = np.random.default_rng(0).normal(size=(4, *SHAPE))
    weights = jax.jit(model.init)(jax.random.key(0), images)
    leaves, structure = jax.tree.flatten(weights.params)
    noise = [0.3 * jax.random.normal(jax.random.key(n), leaf.shape, np.float64) for n, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(
        structure, [jnp.asarray(leaf, np.float64) + more for leaf, more in zip(leaves, noise, strict=True)]
    )
    return lambda params, images: model.apply(weights._replace(params=params), images), params, images


def test_the_networks_agree():
    apply_fn, params, images = setting("detector")
    heat, boxes = jax.jit(apply_fn)(params, images)
    as_torch = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)
    for row, image in enumerate(torch.tensor(images)):
        expected = detector(as_torch, image)
        np.testing.assert_allclose(heat[row], expected[0], rtol=1e-9)
        np.testing.assert_allclose(boxes[row], expected[1], rtol=1e-9)
    apply_fn, params, images = setting("segmenter")
    logits = jax.jit(apply_fn)(params, images)
    as_torch = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)
    for row, image in enumerate(torch.tensor(images)):
        np.testing.assert_allclose(logits[row], segmenter(as_torch, image), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("adaptive", [True, False])
def test_scores_of_boxes_agree_where_there_are_some_and_where_there_is_none(adaptive):
    apply_fn, params, images = setting("detector")
    best = np.sort(jax.nn.sigmoid(jax.jit(apply_fn)(params, images).heat).max((1, 2, 3)))
    threshold = float(best[:2].mean())  # of one image nothing is above it
    task = detection(CLASSES, None, None, SHAPE, max_boxes=MOST, threshold=threshold, overlap=OVERLAP)
    answers = jax.jit(jax.vmap(task.pseudo_label_fn))(apply_fn(params, images))
    counts = sorted((answers.classes >= 0).sum(1).tolist())
    assert counts[0] == 0 and counts[1] > 0 and counts[-1] > 1 and counts[-1] < MOST
    expected = scores(detector, boxes_loss, functools.partial(decoded, threshold=threshold), params, images, adaptive)
    options = {"adaptive": adaptive, "loss_fn": task.loss_fn, "pseudo_label_fn": task.pseudo_label_fn}
    ours = max_perturbed_loss(apply_fn, params, images, **options)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize("adaptive", [True, False])
def test_scores_of_pixels_agree(adaptive):
    apply_fn, params, images = setting("segmenter")
    task = segmentation(CLASSES, None, None, SHAPE)
    expected = scores(segmenter, pixels_loss, lambda outputs: outputs.detach().argmax(-1), params, images, adaptive)
    options = {"adaptive": adaptive, "loss_fn": task.loss_fn, "pseudo_label_fn": task.pseudo_label_fn}
    ours = max_perturbed_loss(apply_fn, params, images, **options)
    assert ours.dtype == np.float64 and ours.shape == (4, *SHAPE[:2])
    np.testing.assert_allclose(ours, expected, rtol=1e-9)
    np.testing.assert_allclose(task.by_candidate(ours), expected.mean((1, 2)), rtol=1e-9)
