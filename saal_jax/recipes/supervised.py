"""Plain supervised training of one network; and what any network can offer."""

import jax
import jax.numpy as jnp

from saal_jax.models import Model
from saal_jax.training import Ingredients, Recipe, TrainState, make_epoch, make_step, supervised_loss, train

LOGITS = {"logits": "image", "pixels": "pixel"}  # what `apply` is called where it returns logits of these


def supervised(ingredients: Ingredients) -> Recipe:
    """Cross-entropy on the labelled images, by any optimizer.

    With a mesh the devices share each batch: gradients and batch statistics are those of the whole batch, so the
    result is that of one device up to rounding.
    """
    model, optimizer, image_shape = ingredients.model, ingredients.optimizer, ingredients.image_shape
    epoch = make_epoch(make_step(supervised_loss(model, ingredients.task), ingredients), ingredients)

    @jax.jit
    def init(key):
        weights = model.init(key, jnp.zeros((1, *image_shape)))
        return TrainState(weights, optimizer.transformation.init(weights.params))

    def train_network(key, state, training, progress=None):
        rates_fn = lambda done: {"learning": optimizer.schedule(done)}  # noqa: E731
        return train(epoch, state, training, key, rates_fn=rates_fn, mesh=ingredients.mesh, progress=progress)

    return Recipe(init, train_network, network_offers(model, ingredients), ingredients.mesh)


def network_offers(model: Model, ingredients: Ingredients) -> dict:
    """What a network by itself offers; with dropout, also the logits of what is left of it when units are dropped."""
    normalize = ingredients.normalize

    def apply(weights, images):
        return model.apply(weights, normalize(images))

    def features(weights, images):
        return model.outputs(weights, normalize(images)).features

    offers = {"apply": apply, "features": features, "normalize": normalize, "task": ingredients.task}
    offers |= {name: apply for name, of in LOGITS.items() if ingredients.task.classes_of == of}
    draw = model.sample
    if draw is None:
        return offers

    def sample_logits(weights, images, keys, samples):
        def sample_image(image, key):
            sample = lambda key: draw(weights, normalize(image[None]), key)[0]  # noqa: E731
            return jax.vmap(sample)(jax.random.split(key, samples))

        return jax.vmap(sample_image)(images, keys)

    return offers | {"sample_logits": sample_logits}
