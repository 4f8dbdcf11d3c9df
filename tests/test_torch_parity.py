"""The network, its training step and the score against PyTorch, written anew there as the papers describe them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saal_jax import max_perturbed_loss
from saal_jax.models import Weights, resnet18
from saal_jax.optimizers import adam, sam, sgd
from saal_jax.tasks.classification import classification
from saal_jax.training import Batch, Ingredients, TrainState, make_step, supervised_loss

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its networks are the oracle here")
functional = torch.nn.functional
torch.set_num_threads(1)

WIDTH, CLASSES = 4, 10


class TorchBlock(torch.nn.Module):
    def __init__(self, inputs, features, stride):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(features)
        self.conv2 = torch.nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(features)
        self.shortcut = torch.nn.Sequential()
        if stride != 1 or inputs != features:
            self.shortcut = torch.nn.Sequential(
                torch.nn.Conv2d(inputs, features, 1, stride, bias=False), torch.nn.BatchNorm2d(features)
            )

    def forward(self, x):
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class TorchResNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, WIDTH, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(WIDTH)
        sizes = [(WIDTH, WIDTH, 1), (WIDTH, WIDTH, 1)]
        for stage in (1, 2, 3):
            sizes += [(WIDTH * 2 ** (stage - 1), WIDTH * 2**stage, 2), (WIDTH * 2**stage, WIDTH * 2**stage, 1)]
        self.blocks = torch.nn.Sequential(*(TorchBlock(*size) for size in sizes))
        self.linear = torch.nn.Linear(8 * WIDTH, CLASSES)

    def forward(self, x):
        hidden = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.linear(hidden.mean((2, 3)))


def as_flax(network) -> Weights:
    """A PyTorch network's weights in the names and layouts of ours."""

    def conv(module):
        return {"kernel": jnp.array(module.weight.detach().numpy().transpose(2, 3, 1, 0))}

    def norm(module):
        params = {"scale": jnp.array(module.weight.detach().numpy()), "bias": jnp.array(module.bias.detach().numpy())}
        stats = {"mean": jnp.array(module.running_mean.numpy()), "var": jnp.array(module.running_var.numpy())}
        return params, stats

    params, stats = {"Conv_0": conv(network.conv1)}, {}
    params["BatchNorm_0"], stats["BatchNorm_0"] = norm(network.bn1)
    for index, block in enumerate(network.blocks):
        inner, inner_stats = {"Conv_0": conv(block.conv1), "Conv_1": conv(block.conv2)}, {}
        inner["BatchNorm_0"], inner_stats["BatchNorm_0"] = norm(block.bn1)
        inner["BatchNorm_1"], inner_stats["BatchNorm_1"] = norm(block.bn2)
        if len(block.shortcut):
            inner["Conv_2"] = conv(block.shortcut[0])
            inner["BatchNorm_2"], inner_stats["BatchNorm_2"] = norm(block.shortcut[1])
        params[f"Block_{index}"], stats[f"Block_{index}"] = inner, inner_stats
    linear = {"kernel": network.linear.weight.detach().numpy().T, "bias": network.linear.bias.detach().numpy()}
    params["Linear_0"] = {"Dense_0": jax.tree.map(jnp.array, linear)}
    return Weights(params, stats)


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    network = TorchResNet()
    for module in network.modules():  # statistics and scales that are not the trivial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    generator = np.random.default_rng(0)
    images = generator.normal(size=(6, 16, 16, 3)).astype(np.float32)
    labels = generator.integers(CLASSES, size=6)
    return network, images, labels


def as_torch(images):
    return torch.tensor(images.transpose(0, 3, 1, 2))


def test_forward_and_loss_agree_in_evaluation_mode(setting):
    network, images, labels = setting
    network.eval()
    expected = network(as_torch(images)).detach().numpy()
    logits = resnet18(CLASSES, width=WIDTH).apply(as_flax(network), images)
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    torch_loss = functional.cross_entropy(torch.tensor(expected), torch.tensor(labels), reduction="none")
    np.testing.assert_allclose(loss, torch_loss, rtol=2e-5, atol=2e-5)


def _torch_sam_step(network, optimizer, images, labels, rho):
    functional.cross_entropy(network(images), labels).backward()
    parameters = list(network.parameters())
    norm = torch.sqrt(sum((parameter.grad**2).sum() for parameter in parameters))
    steps = [rho * parameter.grad / (norm + 1e-12) for parameter in parameters]
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter += step
    network.zero_grad()
    loss = functional.cross_entropy(network(images), labels)
    loss.backward()
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter -= step
    optimizer.step()
    return loss


def _torch_step(network, optimizer, images, labels):
    loss = functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("name", ["adam", "sgd", "sam"])
def test_training_steps_agree_with_running_statistics_and_a_padded_row(setting, name):
    source, images, labels = setting
    network = TorchResNet()
    network.load_state_dict(source.state_dict())
    ours = {"adam": adam(), "sgd": sgd(learning_rate=0.1), "sam": sam(learning_rate=0.1)}[name]
    if name == "adam":
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    else:
        optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    model = resnet18(CLASSES, width=WIDTH)
    task = classification(CLASSES)
    step = jax.jit(make_step(supervised_loss(model, task), Ingredients(model, ours, task, lambda images: images, ())))
    weights = as_flax(network)
    state = TrainState(weights, ours.transformation.init(weights.params))
    indices = np.array([4, 0, 2, 5, 1, -1])  # the last row is padding
    padded = Batch(images[indices], labels[indices], np.float32(indices >= 0))

    network.train()
    for _ in range(2):
        network.zero_grad()
        batch = as_torch(images[indices[:5]]), torch.tensor(labels[indices[:5]])
        if name == "sam":
            loss = _torch_sam_step(network, optimizer, *batch, rho=0.05)
        else:
            loss = _torch_step(network, optimizer, *batch)
        state, summed = step(state, padded, jax.random.key(0), {"learning": 1.0})
        np.testing.assert_allclose(summed / 5, loss.item(), rtol=1e-4)
    expected = as_flax(network)
    chex.assert_trees_all_close(state.weights.batch_stats, expected.batch_stats, rtol=2e-3, atol=2e-4)
    chex.assert_trees_all_close(state.weights.params, expected.params, rtol=2e-3, atol=5e-4)


def test_initialisation_has_the_distribution_of_pytorch():
    torch.manual_seed(1)
    ours = resnet18(CLASSES, width=16).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3))).params
    for layer, module in (
        (ours["Block_7"]["Conv_0"]["kernel"], torch.nn.Conv2d(128, 128, 3)),
        (ours["Linear_0"]["Dense_0"]["kernel"], torch.nn.Linear(128, CLASSES)),
    ):
        theirs = module.weight.detach().numpy()
        assert abs(float(layer.std()) / theirs.std() - 1) < 0.1
        assert abs(float(jnp.abs(layer).max()) / np.abs(theirs).max() - 1) < 0.02  # the same bound of a uniform
    bias = ours["Linear_0"]["Dense_0"]["bias"]
    assert 0 < float(jnp.abs(bias).max()) <= 128**-0.5


@pytest.mark.parametrize("adaptive", [True, False])
def test_score_agrees_with_a_loop_over_single_images(setting, adaptive):
    source, images, _ = setting
    network = TorchResNet()
    network.load_state_dict(source.state_dict())
    network.double().eval()
    scores = []
    for image in as_torch(images).double():
        network.zero_grad()
        logits = network(image[None])
        label = logits.argmax(1)
        functional.cross_entropy(logits, label).backward()
        weighted = [p.abs() * p.grad if adaptive else p.grad for p in network.parameters()]
        norm = torch.sqrt(sum((leaf**2).sum() for leaf in weighted)) + 1e-12
        before = [p.detach().clone() for p in network.parameters()]
        with torch.no_grad():
            for p in network.parameters():
                p += 0.05 * (p**2 * p.grad if adaptive else p.grad) / norm
            scores.append(functional.cross_entropy(network(image[None]), label).item())
            for p, old in zip(network.parameters(), before, strict=True):
                p.copy_(old)
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), as_flax(network))
        model = resnet18(CLASSES, width=WIDTH)
        ours = max_perturbed_loss(
            lambda params, images: model.apply(weights._replace(params=params), images),
            weights.params,
            jnp.asarray(images, jnp.float64),
            adaptive=adaptive,
        )
    assert ours.dtype == jnp.float64
    np.testing.assert_allclose(ours, scores, rtol=1e-9)
