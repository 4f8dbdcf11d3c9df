"""What many tests share: each program that two of them compile alike is compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.models import small_cnn
from saal_jax.optimizers import adam, sgd
from saal_jax.pool import Pool
from saal_jax.preprocessing import normalize, unchanged
from saal_jax.recipes import RECIPES
from saal_jax.tasks.classification import classification
from saal_jax.training import Ingredients

# Of a run from the command line: the data set, and the network.
RUN = ["--config=digits_saal", "--config.dataset=digits[:10%]", "--config.model.width=2"]

# A pool of grey images, brighter from class to class, and the network, the optimizers and the recipes that learn it.
SIZE, CLASSES, SHAPE, BATCH = 40, 3, (8, 8, 1), 4
LABELS = np.arange(SIZE, dtype=np.int32) % CLASSES
IMAGES = np.random.default_rng(0).integers(0, 200, (SIZE, *SHAPE)).astype(np.uint8)
IMAGES += 25 * LABELS[:, None, None, None].astype(np.uint8)
IDS = np.arange(SIZE, dtype=np.uint32)
POOL = Pool(jnp.asarray(IMAGES), IDS, IDS.astype(str))
NORMALIZE = functools.partial(normalize, mean=(0.4,), std=(0.4,))
NETWORK = small_cnn(CLASSES, width=2)
ADAM, SGD = adam(learning_rate=0.01), sgd(learning_rate=0.05)


@functools.cache
def recipe(name="supervised", model=NETWORK, optimizer=SGD, augment=unchanged, **options):
    """One object for equal arguments, whose functions are compiled once."""
    ingredients = Ingredients(model, optimizer, classification(CLASSES, augment), NORMALIZE, SHAPE)
    return RECIPES[name](ingredients, **options)


@jax.jit
def convolved(params, images):
    """Logits of ten classes, of images `[B, 8, 8, 1]`: a convolution, ReLU and a linear layer."""
    layout = ("NHWC", "HWIO", "NHWC")
    hidden = jax.lax.conv_general_dilated(images, params["kernel"], (2, 2), "SAME", dimension_numbers=layout)
    return jax.nn.relu(hidden).reshape(len(images), -1) @ params["matrix"] + params["bias"][None]


def convolved_params(features=4):
    """Of 694 numbers."""
    generator, shapes = np.random.default_rng(3), {"kernel": (3, 3, 1, features), "matrix": (16 * features, 10)}
    params = {name: generator.normal(size=shape) / np.sqrt(np.prod(shape[:-1])) for name, shape in shapes.items()}
    return jax.tree.map(jnp.float32, params | {"bias": np.zeros(10)})
