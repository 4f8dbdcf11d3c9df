"""How informative is an unlabelled image? Its loss after the worst small step of the weights."""

import contextlib
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
      params: pytree of the weights to perturb, floating arrays. What must not be perturbed (running statistics) or
        is not floating (counters, keys) belongs in `apply_fn`.
      images: `[B, ...]`, as `apply_fn` takes them.
      labels: `None` for pseudo labels (the class of the largest logit) or integers `[B]` in `0..C-1`; traced ones are
        taken to be in range.
      rho: radius of the perturbation, >= 0; traced, so that changing it does not recompile.
      adaptive: whether the ball is scaled by the weights.

    Returns:
      `[B]` losses in nats, in the dtype of the logits; higher is more informative.

    Raises:
      InputError: `rho` that is not one finite number, 0 or more; a leaf of `params` that is not floating, or none;
        images without a batch axis; an `apply_fn` whose result is not one floating array `[B, C]`; labels that are not
        integers `[B]` in range; inside a `jax.shard_map` without `check_vma=False`.

    To spread images over devices use `score_pool(mesh=...)`, or `jax.shard_map` with `check_vma=False` (without it, JAX
    would sum the gradient of weights that devices share over the devices): on a CPU, images sharded by an explicit mesh
    are refused by the loop inside.

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
    return _logits(apply_fn, params, image[None])[0]


def _logits(apply_fn, params, images):
    """What `apply_fn` returns, if that is logits `[B, C]`."""
    logits, size = apply_fn(params, images), images.shape[0]
    found = _type(logits)
    if found is None or found.ndim != 2 or found.shape[0] != size or not found.shape[1] or not _floating(found):
        raise InputError(
            f"apply_fn gave {_described(logits)} for a batch of {size}: it must return logits of shape [{size}, C], "
            "one floating array and nothing else"
        )
    return logits


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
    """The door: returns `labels` after everything is checked, values where they are known (not while tracing)."""
    _check_rho(rho)
    _check_params(params)
    if _type(images) is None or not _type(images).ndim:
        raise InputError(f"images are {_described(images)}: pass one array [B, ...]")
    labels = labels if labels is None else _integers(labels, images.shape[0])
    if any(_varies(leaf) for leaf in jax.tree.leaves((params, images, labels, rho))):
        raise InputError("inside jax.shard_map pass it check_vma=False: JAX would sum the gradients over its devices")
    if not images.shape[0]:
        return labels
    num_classes = logits_type(apply_fn, params, images).shape[1]
    if labels is not None and not isinstance(labels, jax.core.Tracer):
        low, high = _range(labels)
        if low < 0 or high >= num_classes:
            raise InputError(f"labels run from {low} to {high}, but the model has the classes 0..{num_classes - 1}")
    return labels


def logits_type(apply_fn, params, images):
    """Shape and dtype of the logits `[B, C]`; `apply_fn` is traced once for all arguments of the same shapes."""
    return _jitted_logits.eval_shape(apply_fn, params, images)


_jitted_logits = jax.jit(_logits, static_argnames="apply_fn")


def _check_rho(rho):
    found, traced = _type(rho), isinstance(rho, jax.core.Tracer)
    real = found is not None and any(jnp.issubdtype(found.dtype, kind) for kind in (jnp.floating, jnp.integer))
    # In numpy: inside a caller's transformation JAX would trace the comparison.
    if not real or found.ndim or not (traced or 0 <= np.asarray(rho) < np.inf):
        raise InputError(f"rho is {rho}: the radius of the perturbation must be one finite number, 0 or more")


def _check_params(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("params has no leaves: pass the pytree of the weights")
    for path, leaf in leaves:
        if _type(leaf) is None or not _floating(_type(leaf)):
            raise InputError(
                f"params{jax.tree_util.keystr(path)} is {_described(leaf)}: every leaf of params must be a floating "
                "array, and what is not trained belongs in apply_fn"
            )


def _integers(labels, size):
    """`labels` as an array, if they are integers `[size]`."""
    if not isinstance(labels, jax.Array):
        with contextlib.suppress(TypeError, ValueError):  # a ragged list stays one
            labels = np.asarray(labels)
    if getattr(labels, "shape", None) != (size,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels are {_described(labels)} for {size} images: pass integers of shape [{size}], or None for pseudo "
            "labels"
        )
    return labels


def _range(labels):
    """The least and the largest of known labels."""
    # In numpy: inside a caller's transformation JAX would trace them. Of labels spread over processes, each has a part.
    shards = [shard.data for shard in labels.addressable_shards] if isinstance(labels, jax.Array) else [labels]
    values = [np.asarray(shard) for shard in shards]
    return min(np.min(part) for part in values), max(np.max(part) for part in values)


def _type(value):
    """Shape and dtype as JAX takes it, or None of what is no array or number."""
    try:
        return jax.typeof(value)
    except TypeError:
        return None


def _floating(found):
    return jnp.issubdtype(found.dtype, jnp.floating)


def _varies(leaf):
    """Whether JAX tracks it as differing between the devices of a `shard_map`."""
    return bool(jax.typeof(leaf).manual_axis_type.varying)


def _described(value):
    is_array = isinstance(value, jax.Array | np.ndarray | np.generic)
    return f"{value.dtype}{list(value.shape)}" if is_array else type(value).__name__
