"""First and second derivatives of every image's own loss: gradient norms, and the terms of SAAL's upper bound."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from saal_jax.engine.convolution import as_matrix_products
from saal_jax.errors import InputError
from saal_jax.keys import make_key
from saal_jax.scores.lanczos import largest_eigenvalue
from saal_jax.scores.perturbed_loss import few_at_a_time, loss_of_one, outputs_type, validated, with_gradients
from saal_jax.tasks.classification import check_outputs, cross_entropy_by_differences, most_likely
from saal_jax.typing import ApplyFn, Images, LossFn, PseudoLabelFn, PyTree


def upper_bound_terms(
    apply_fn: ApplyFn,
    params: PyTree,
    images: Images,
    labels: PyTree = None,
    *,
    rho: float | jax.Array = 0.05,
    iterations: int = 40,
    loss_fn: LossFn = cross_entropy_by_differences,
    pseudo_label_fn: PseudoLabelFn = most_likely,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss, gradient term and eigenvalue term of every image: `l`, `rho |g|` and `rho^2 / 2 lambda_1`.

    With `l`, `g` and `H` the loss of one image at its label, its gradient and its Hessian over all of `params`,
    `lambda_1` is the algebraically largest eigenvalue of `H`. The sum of the terms is the largest that the loss of the
    *plain* ascent, `max_perturbed_loss(adaptive=False)`, can be to second order: `l(w + d) = l + g'd + d'Hd / 2 + ...`
    with `|d| = rho`. It is an expansion, not an inequality: the terms left out can make the exact loss the larger.
    Source: Kim et al., "SAAL: Sharpness-Aware Active Learning", ICML 2023.

    `lambda_1` comes from below, by Lanczos iterations started from `g / |g|` plus a unit vector that is the same for
    all images. 40 of them come within 0.1 % of it, in float32 and float64, for every image tried on a CNN of 1,210
    parameters. Trained networks need 12 for that. Untrained ones need most, as their largest eigenvalues lie close
    together: 32 iterations left one of 8,800 images at 0.7 %, 24 six at up to 3 %. An iteration costs about six forward
    passes in operations. On a CPU few images are processed at a time, elsewhere all that are passed, each with about
    six arrays of the size of `params` and with what its passes keep (`score_pool` derives its chunks from that).

    Args:
      apply_fn: as `max_perturbed_loss` takes it; static under jit.
      params: pytree of weights, floating arrays.
      images: `[B, ...]`, as `apply_fn` takes them.
      labels: `None` for pseudo labels, or labels, as `max_perturbed_loss` takes them.
      rho: radius of the perturbation, >= 0; traced.
      iterations: of Lanczos, >= 1; static.
      loss_fn, pseudo_label_fn: as `max_perturbed_loss` takes them; the terms are those of the mean loss.

    Returns:
      `(loss[B], gradient_term[B], eigenvalue_term[B])` in nats, in the dtype of the weights, but float32 at least.

    Raises:
      InputError: as `max_perturbed_loss`; `iterations` below 1.

    >>> import jax.numpy as jnp
    >>> from saal_jax import score_pool
    >>> linear = lambda weights, images: images @ weights
    >>> weights, image = jnp.eye(2), jnp.array([[0.0, 2.0]])
    >>> [f"{term[0]:.4f}" for term in upper_bound_terms(linear, weights, image, rho=1.0)]
    ['0.1269', '0.3372', '0.4200']
    >>> loss, _, _ = score_pool(lambda *of: upper_bound_terms(linear, *of), weights, image)
    >>> loss
    array([0.12692805], dtype=float32)
    """
    if not isinstance(iterations, int) or iterations < 1:
        raise InputError(f"iterations is {iterations}: it must be a whole number, at least 1")
    labels = validated(apply_fn, params, images, labels, rho, loss_fn, pseudo_label_fn)
    return _terms(apply_fn, params, images, labels, rho, iterations, loss_fn, pseudo_label_fn)


def gradient_norm(
    apply_fn: ApplyFn,
    params: PyTree,
    images: Images,
    labels: PyTree = None,
    *,
    loss_fn: LossFn = cross_entropy_by_differences,
    pseudo_label_fn: PseudoLabelFn = most_likely,
) -> jax.Array:
    """The norm of the gradient of every image's loss, over all of `params`.

    At pseudo labels the confidence form of expected gradient length; its last layer's part is the length of BADGE's
    gradient embeddings (Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR
    2020). Arguments and errors are those of `max_perturbed_loss`.

    Returns:
      `[B]` in nats per unit of weight, in the dtype of the weights, but float32 at least.

    >>> import jax.numpy as jnp
    >>> print(f"{gradient_norm(lambda weights, images: images @ weights, jnp.eye(2), jnp.array([[0.0, 2.0]]))[0]:.4f}")
    0.3372
    """
    labels = validated(apply_fn, params, images, labels, 0.0, loss_fn, pseudo_label_fn)
    return _gradient_norms(apply_fn, params, images, labels, loss_fn, pseudo_label_fn)[1]


def expected_gradient_length(apply_fn: ApplyFn, params: PyTree, images: Images) -> jax.Array:
    """EGL, `sum_y p(y | x) |gradient of the loss at label y|`, over all of `params`, with the model's own `p`.

    Source: Settles, Craven and Ray, "Multiple-Instance Active Learning", NIPS 2007. One forward pass and,
    for each of the C classes, one backward pass; C gradients at a time are held for an image. Arguments and errors are
    those of `max_perturbed_loss`.

    Returns:
      `[B]` in nats per unit of weight, in the dtype of the weights, but float32 at least.

    >>> import jax.numpy as jnp
    >>> linear = lambda weights, images: images @ weights
    >>> print(f"{expected_gradient_length(linear, jnp.zeros((2, 2)), jnp.array([[0.0, 2.0]]))[0]:.4f}")  # 2 |(.5, -.5)|
    1.4142
    """
    validated(apply_fn, params, images, None, 0.0, cross_entropy_by_differences, most_likely)
    return _expected_lengths(apply_fn, params, images)


@functools.partial(jax.jit, static_argnames=("apply_fn", "iterations", "loss_fn", "pseudo_label_fn"))
def _terms(apply_fn, params, images, labels, rho, iterations, loss_fn, pseudo_label_fn):
    fun = loss_of_one(apply_fn, loss_fn, pseudo_label_fn)
    flat, unravel = ravel_pytree(_wide(params))
    fixed = jax.random.normal(make_key(0), flat.shape, flat.dtype)
    fixed = fixed / jnp.linalg.norm(fixed)

    def terms(example):
        def mean_loss(flat):
            return fun(unravel(flat), *example)[0]

        loss, gradient = jax.value_and_grad(mean_loss)(flat)
        # Everything that does not depend on the vector is computed here, once.
        _, product_fn = jax.linearize(jax.grad(mean_loss), flat)
        norm = jnp.linalg.norm(gradient)
        start = fixed + gradient / jnp.where(norm > 0, norm, 1)
        eigenvalue = largest_eigenvalue(as_matrix_products(product_fn), start, iterations)
        radius = jnp.asarray(rho, flat.dtype)
        return loss, radius * norm, radius**2 / 2 * eigenvalue

    return few_at_a_time(as_matrix_products(terms), params, (images, labels))


@functools.partial(jax.jit, static_argnames=("apply_fn", "loss_fn", "pseudo_label_fn"))
def _gradient_norms(apply_fn, params, images, labels, loss_fn, pseudo_label_fn):
    """Losses `[B, ...]` and the norms `[B]` of the gradients of their means."""

    def norm(image, label, gradients):
        del image, label
        return optax.tree.norm(_wide(gradients))

    return with_gradients(norm, loss_of_one(apply_fn, loss_fn, pseudo_label_fn), params, images, labels)


@functools.partial(jax.jit, static_argnames="apply_fn")
def _expected_lengths(apply_fn, params, images):
    def at(label):
        labels = jnp.full(images.shape[0], label)
        return _gradient_norms(apply_fn, params, images, labels, cross_entropy_by_differences, most_likely)

    num_classes = outputs_type(apply_fn, params, images, check_outputs).shape[1]
    losses, norms = jax.vmap(at)(jnp.arange(num_classes))  # what comes before the loss is no part of this vmap
    return jnp.sum(jnp.exp(-losses) * norms, axis=0)


def _wide(tree):
    """In float32 at least."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), tree)
