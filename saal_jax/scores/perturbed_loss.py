"""How informative is an unlabelled image? Its loss after the worst small step of the weights."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.engine.convolution import as_matrix_products
from saal_jax.engine.factors import value_and_factors
from saal_jax.errors import InputError
from saal_jax.perturbation import ascend
from saal_jax.tasks.classification import cross_entropy, described, most_likely
from saal_jax.typing import ApplyFn, Images, LossFn, PseudoLabelFn, PyTree

_CACHED_BYTES = 2**22


def max_perturbed_loss(
    apply_fn: ApplyFn,
    params: PyTree,
    images: Images,
    labels: PyTree = None,
    *,
    rho: float | jax.Array = 0.05,
    adaptive: bool = True,
    loss_fn: LossFn = cross_entropy,
    pseudo_label_fn: PseudoLabelFn = most_likely,
) -> jax.Array:
    """Loss of every image after the weights ascended, for that image alone, to where its loss is largest.

    With `y` the label, `l(w) = mean(loss_fn(apply_fn(w, x), y))` and `g` its gradient over all of `params`, the score
    is the loss at `w' = w + rho w^2 g / (||w| g| + 1e-12)` (`adaptive`, as the released program has it), or at
    `w' = w + rho g / (|g| + 1e-12)` (plain). No gradient flows through the pseudo label. Source: Kim et al.,
    "SAAL: Sharpness-Aware Active Learning", ICML 2023, and its released scorer, which classifies.

    Args:
      apply_fn: `apply_fn(params, images[B, ...]) -> outputs`, in evaluation mode, every row for itself: logits
        `[B, C]` or, for a `loss_fn` of one's own, any pytree of arrays `[B, ...]`. It is static under jit: pass the
        same function object to reuse the compiled program.
      params: pytree of the weights to perturb, floating arrays. What must not be perturbed (running statistics) or
        is not floating (counters, keys) belongs in `apply_fn`.
      images: `[B, ...]`, as `apply_fn` takes them.
      labels: `None` for pseudo labels, or integers `[B]` in `0..C-1`; for a `loss_fn` of one's own, any pytree of
        arrays `[B, ...]`. Traced ones are taken to be in range.
      rho: radius of the perturbation, >= 0; traced, so that changing it does not recompile.
      adaptive: whether the ball is scaled by the weights.
      loss_fn: `(outputs, label) -> losses[...]` of one example, floating, of any shape: one number for a classifier or
        a detector, one for each pixel of a segmenter. The weights climb the mean; the result keeps the shape. Static.
      pseudo_label_fn: `outputs -> label` of one example: the model's own answer. Static.

    Returns:
      `[B, ...]` losses in nats, in the dtype of the outputs; higher is more informative.

    Raises:
      InputError: `rho` that is not one finite number, 0 or more; a leaf of `params` that is not floating, or none;
        images, labels or outputs without a batch axis; for the cross-entropy, outputs that are not one floating array
        `[B, C]` and labels that are not integers `[B]` in range; losses that are not one floating array; inside a
        `jax.shard_map` without `check_vma=False`.

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
    >>> squared = lambda outputs, label: jnp.square(outputs - label)  # a label for each of two outputs
    >>> max_perturbed_loss(linear, weights, image, image + 1.0, rho=0.0, loss_fn=squared)
    Array([[1., 1.]], dtype=float32)
    """
    labels = validated(apply_fn, params, images, labels, rho, loss_fn, pseudo_label_fn)
    return _losses(apply_fn, params, images, labels, rho, adaptive, loss_fn, pseudo_label_fn)[1]


def sharpness(
    apply_fn: ApplyFn,
    params: PyTree,
    images: Images,
    labels: PyTree = None,
    *,
    rho: float | jax.Array = 0.05,
    adaptive: bool = True,
    loss_fn: LossFn = cross_entropy,
    pseudo_label_fn: PseudoLabelFn = most_likely,
) -> jax.Array:
    """How much the loss of every image rises in that step: `max_perturbed_loss` minus the clean loss.

    Arguments, shapes and errors are those of `max_perturbed_loss`; the paper's `diff` score.

    >>> import jax.numpy as jnp
    >>> sharpness(lambda weights, images: images @ weights, jnp.eye(2), jnp.array([[2.0, 1.0]]), rho=0.0)
    Array([0.], dtype=float32)
    """
    labels = validated(apply_fn, params, images, labels, rho, loss_fn, pseudo_label_fn)
    clean, perturbed = _losses(apply_fn, params, images, labels, rho, adaptive, loss_fn, pseudo_label_fn)
    return perturbed - clean


@functools.partial(jax.jit, static_argnames=("apply_fn", "adaptive", "loss_fn", "pseudo_label_fn"))
def _losses(apply_fn, params, images, labels, rho, adaptive, loss_fn, pseudo_label_fn):
    """Clean and perturbed losses, each `[B, ...]`."""
    fun = loss_of_one(apply_fn, loss_fn, pseudo_label_fn)

    def perturbed_losses(image, label, gradients):
        perturbed = ascend(params, gradients, rho, adaptive=adaptive)
        # Fused into the products, the step would be computed again for every tile of them.
        perturbed = jax.tree.map(jax.lax.optimization_barrier, perturbed)
        _, (losses, _) = as_matrix_products(fun)(perturbed, image, label)
        return losses

    return with_gradients(perturbed_losses, fun, params, images, labels)


def loss_of_one(apply_fn: ApplyFn, loss_fn: LossFn, pseudo_label_fn: PseudoLabelFn) -> Callable:
    """Returns `(params, image, label) -> (mean loss, (losses, label))` of one example; None is its pseudo label."""

    def fun(params, image, label):
        outputs = jax.tree.map(lambda leaf: leaf[0], _outputs(apply_fn, _checks(loss_fn)[0], params, image[None]))
        label = pseudo_label_fn(jax.lax.stop_gradient(outputs)) if label is None else label
        losses = loss_fn(outputs, label)
        return losses.mean() if losses.ndim else losses, (losses, label)

    return fun


def _outputs(apply_fn, check_outputs, params, images):
    outputs = apply_fn(params, images)
    check_outputs(outputs, images.shape[0])
    return outputs


def with_gradients(
    fun: Callable, loss_fn: Callable, params: PyTree, images: Images, labels: PyTree
) -> tuple[jax.Array, PyTree]:
    """Losses `[B, ...]` and what `fun(image, label, gradients)` makes of the gradients of each, `[B, ...]`.

    `loss_fn` is as `loss_of_one` makes it. The work is in two halves. The first, with weights that all examples share,
    is one `vmap` over the batch. The second holds gradients (and weights) of the example's own, so it takes few
    examples at a time.
    """
    example = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), (images, labels))
    factors_fn, gradients_fn = value_and_factors(loss_fn, params, *example)
    first_half = as_matrix_products(jax.vmap(factors_fn, (None, 0, 0)), shared=False)
    (_, (losses, labels)), factors = first_half(params, images, labels)

    def second_half(example):
        image, label, factors = example
        return fun(image, label, gradients_fn(factors))

    return losses, few_at_a_time(second_half, params, (images, labels, factors))


def few_at_a_time(fun: Callable, params: PyTree, examples: PyTree) -> PyTree:
    """`fun` of every example, as many at a time as stay in a CPU's caches with arrays like `params` of their own."""
    size = jax.tree.leaves(examples)[0].shape[0]
    in_flight = _in_flight(params, examples, size)
    if in_flight >= size:
        return jax.vmap(fun)(examples)
    return jax.lax.map(fun, examples, batch_size=in_flight if in_flight > 1 else None)


def _in_flight(params, examples, size):
    """How many examples have gradients and weights of their own at a time: on a CPU what stays in its caches."""
    if jax.default_backend() != "cpu":
        return size
    # Of large images what enters the layers, here in the factors, is more than the weights.
    own, read = (sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (params, examples))
    return int(np.clip(_CACHED_BYTES // max(1, own + read // max(1, size)), 1, size))


def validated(
    apply_fn: ApplyFn,
    params: PyTree,
    images: Images,
    labels: PyTree,
    rho: float | jax.Array,
    loss_fn: LossFn,
    pseudo_label_fn: PseudoLabelFn,
) -> PyTree:
    """Returns `labels` after all arguments are checked, their values where these are known (not while tracing)."""
    _check_rho(rho)
    _check_params(params)
    if _type(images) is None or not _type(images).ndim:
        raise InputError(f"images are {described(images)}: pass one array [B, ...]")
    size, (check_outputs, check_labels) = images.shape[0], _checks(loss_fn)
    if any(_varies(leaf) for leaf in jax.tree.leaves((params, images, labels, rho))):
        raise InputError("inside jax.shard_map pass it check_vma=False: JAX would sum the gradients over its devices")
    outputs = outputs_type(apply_fn, params, images, check_outputs) if size else None
    labels = labels if labels is None else check_labels(labels, size, outputs)
    if size and check_outputs is _check_outputs:
        _check_losses(outputs, labels, loss_fn, pseudo_label_fn)
    return labels


def outputs_type(apply_fn: ApplyFn, params: PyTree, images: Images, check_outputs: Callable) -> PyTree:
    """Shapes and dtypes of the outputs `[B, ...]`; `apply_fn` is traced once for all arguments of the same shapes."""
    return _jitted_outputs.eval_shape(apply_fn, check_outputs, params, images)


_jitted_outputs = jax.jit(_outputs, static_argnums=(0, 1))


def _checks(loss_fn):
    """What a loss itself wants checked of outputs and labels, or that each array of them has a row for each image."""
    return getattr(loss_fn, "check_outputs", _check_outputs), getattr(loss_fn, "check_labels", _check_labels)


def _check_rho(rho):
    rho_type, traced = _type(rho), isinstance(rho, jax.core.Tracer)
    real = rho_type is not None and any(jnp.issubdtype(rho_type.dtype, kind) for kind in (jnp.floating, jnp.integer))
    # In numpy: inside a caller's transformation JAX would trace the comparison.
    if not real or rho_type.ndim or not (traced or 0 <= np.asarray(rho) < np.inf):
        raise InputError(f"rho is {rho}: the radius of the perturbation must be one finite number, 0 or more")


def _check_params(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("params has no leaves: pass the pytree of the weights")
    for path, leaf in leaves:
        if _type(leaf) is None or not _floating(_type(leaf)):
            raise InputError(
                f"params{jax.tree_util.keystr(path)} is {described(leaf)}: every leaf of params must be a floating "
                "array, and what is not trained belongs in apply_fn"
            )


def _check_outputs(outputs, size):
    wrong = _without_rows(outputs, size)
    if wrong:
        raise InputError(f"apply_fn returned {wrong} for a batch of {size}: it must return arrays [{size}, ...]")


def _check_labels(labels, size, outputs):
    wrong = _without_rows(labels, size)
    if wrong:
        raise InputError(f"labels are {wrong} for {size} images: pass arrays [{size}, ...], or None for pseudo labels")
    return labels


def _without_rows(tree, size):
    """The first leaf that has no row for each of `size` images, and where it is."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if _type(leaf) is None or _type(leaf).shape[:1] != (size,):
            return described(leaf) + (f" at {jax.tree_util.keystr(path)}" if path else "")
    return None


def _check_losses(outputs, labels, loss_fn, pseudo_label_fn):
    """Refuses a `loss_fn` whose result of one example is not one floating array."""

    def first(outputs, labels):
        outputs, labels = jax.tree.map(lambda leaf: leaf[0], (outputs, labels))
        return loss_fn(outputs, pseudo_label_fn(outputs) if labels is None else labels)

    losses = jax.eval_shape(first, outputs, labels)
    if not isinstance(losses, jax.ShapeDtypeStruct) or not _floating(losses):
        raise InputError(f"loss_fn returned {described(losses)} for one example: it must return one floating array")


def _type(value):
    """Shape and dtype as JAX takes it, or None of what is no array or number."""
    try:
        return jax.typeof(value)
    except TypeError:
        return None


def _floating(array_type):
    return jnp.issubdtype(array_type.dtype, jnp.floating)


def _varies(leaf):
    """Whether JAX tracks it as differing between the devices of a `shard_map`."""
    return _type(leaf) is not None and bool(_type(leaf).manual_axis_type.varying)
