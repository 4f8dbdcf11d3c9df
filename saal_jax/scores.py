"""How informative is an unlabelled image? Its loss after the worst small step of the weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saal_jax.convolution import as_matrix_products
from saal_jax.errors import InputError
from saal_jax.factors import value_and_factors
from saal_jax.perturbation import ascend

_CACHED_BYTES = 2**22


def max_perturbed_loss(apply_fn, params, images, labels=None, *, rho=0.05, adaptive=True):
    """Loss of every image after the weights ascended, for that image alone, to where its loss is largest.

    With `y` the label, `l(w) = cross_entropy(apply_fn(w, x), y)` and `g` its gradient over all of `params`, the score
    is `l(w')` with `w' = w + rho w^2 g / (||w| g| + 1e-12)` (`adaptive`, as the released program has it), or
    `w' = w + rho g / (|g| + 1e-12)` (plain). No gradient flows through the pseudo label. Source: Kim et al.,
    "SAAL: Sharpness-Aware Active Learning", ICML 2023, and its released scorer.

    Args:
      apply_fn: `apply_fn(params, images[B, ...]) -> logits[B, C]`, in evaluation mode, every row for itself. It is
        static under jit: pass the same function object to reuse the compiled program.
      params: pytree of the weights to perturb. What must not be perturbed (running statistics) belongs in `apply_fn`.
      images: `[B, ...]`, as `apply_fn` takes them.
      labels: `None` for pseudo labels (the class of the largest logit) or integers `[B]` in `0..C-1`.
      rho: radius of the perturbation, >= 0; traced, so that changing it does not recompile.
      adaptive: whether the ball is scaled by the weights.

    Returns:
      `[B]` losses in nats, in the dtype of the logits; higher is more informative.

    Raises:
      InputError: negative `rho`, or labels that are not integers `[B]` in range.

    To spread images over devices use `score_pool(mesh=...)`, or `jax.shard_map` with `check_vma=False`: on a CPU,
    images sharded by an explicit mesh are refused by the loop inside.

    >>> import jax.numpy as jnp
    >>> linear = lambda weights, images: images @ weights
    >>> weights, image = jnp.eye(2), jnp.array([[2.0, 1.0]])
    >>> print(f"{max_perturbed_loss(linear, weights, image, rho=0.0)[0]:.4f}")  # log(1 + exp(-1)), the clean loss
    0.3133
    >>> print(f"{max_perturbed_loss(linear, weights, image, rho=0.5, adaptive=False)[0]:.4f}")
    1.0254
    """
    return _losses(apply_fn, params, images, checked(apply_fn, params, images, labels, rho), rho, adaptive)[1]


def sharpness(apply_fn, params, images, labels=None, *, rho=0.05, adaptive=True):
    """How much the loss of every image rises in that step: `max_perturbed_loss` minus the clean loss.

    Arguments, shapes and errors are those of `max_perturbed_loss`; the paper's `diff` score.

    >>> import jax.numpy as jnp
    >>> sharpness(lambda weights, images: images @ weights, jnp.eye(2), jnp.array([[2.0, 1.0]]), rho=0.0)
    Array([0.], dtype=float32)
    """
    clean, perturbed = _losses(apply_fn, params, images, checked(apply_fn, params, images, labels, rho), rho, adaptive)
    return perturbed - clean


@functools.partial(jax.jit, static_argnames=("apply_fn", "adaptive"))
def _losses(apply_fn, params, images, labels, rho, adaptive):
    """Clean and perturbed loss, each `[B]`."""

    def loss_fn(params, image, label):
        logits = logits_of_one(apply_fn, params, image)
        label = jnp.argmax(logits) if label is None else label
        return optax.softmax_cross_entropy_with_integer_labels(logits, label), label

    def perturbed_loss(image, label, gradients):
        perturbed = ascend(params, gradients, rho, adaptive=adaptive)
        # Fused into the products, the step would be computed again for every tile of them.
        perturbed = jax.tree.map(jax.lax.optimization_barrier, perturbed)
        return as_matrix_products(loss_fn)(perturbed, image, label)[0]

    return with_gradients(perturbed_loss, loss_fn, params, images, labels)


def logits_of_one(apply_fn, params, image):
    """Logits `[C]` of one image."""
    logits = apply_fn(params, image[None])
    if jnp.shape(logits)[:1] != (1,) or jnp.ndim(logits) != 2:
        raise InputError(f"apply_fn gave {jnp.shape(logits)} for one image: it must return logits of shape [B, C]")
    return logits[0]


def with_gradients(fun, loss_fn, params, images, labels):
    """Losses `[B]` and what `fun(image, label, gradients)` makes of the gradients of each, `[B, ...]`.

    `loss_fn(params, image, label) -> (loss, label)` is that of one example. The work is in two halves. The first, with
    weights that all examples share, is one `vmap` over the batch. The second holds gradients (and weights) of the
    example's own, so it takes few examples at a time.
    """
    example = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), (images, labels))
    factors_fn, gradients_fn = value_and_factors(loss_fn, params, *example)
    first_half = as_matrix_products(jax.vmap(factors_fn, (None, 0, 0)), shared=False)
    (losses, labels), factors = first_half(params, images, labels)

    def second_half(example):
        image, label, factors = example
        return fun(image, label, gradients_fn(factors))

    return losses, few_at_a_time(second_half, params, (images, labels, factors))


def few_at_a_time(fun, params, examples):
    """`fun` of every example, as many at a time as stay in a CPU's caches with arrays like `params` of their own."""
    size = jax.tree.leaves(examples)[0].shape[0]
    in_flight = _in_flight(params, size)
    if in_flight >= size:
        return jax.vmap(fun)(examples)
    return jax.lax.map(fun, examples, batch_size=in_flight if in_flight > 1 else None)


def _in_flight(params, size):
    """How many examples have gradients and weights of their own at a time: on a CPU what stays in its caches."""
    if jax.default_backend() != "cpu":
        return size
    return int(np.clip(_CACHED_BYTES // max(1, sum(leaf.nbytes for leaf in jax.tree.leaves(params))), 1, size))


def checked(apply_fn, params, images, labels, rho):
    """The door: static properties always, values where they are known (not while tracing)."""
    if np.ndim(rho) or not (isinstance(rho, jax.core.Tracer) or 0 <= rho < np.inf):
        raise InputError(f"rho is {rho}: the radius of the perturbation must be one finite number, 0 or more")
    if labels is None:
        return None
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if labels.shape != images.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels are {labels.dtype}{list(labels.shape)} for {images.shape[0]} images: pass integers of shape "
            f"[{images.shape[0]}], or None for pseudo labels"
        )
    if not isinstance(labels, jax.core.Tracer) and labels.size:
        num_classes = jax.eval_shape(apply_fn, params, images).shape[-1]
        low, high = np.min(labels), np.max(labels)
        if low < 0 or high >= num_classes:
            raise InputError(f"labels run from {low} to {high}, but the model has the classes 0..{num_classes - 1}")
    return labels
