"""What makes a CPU's training steps fast changes no result, and does what it is there for."""

import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from saal_jax.engine.cpu import COMPILER_OPTIONS, with_stored_operands

pytestmark = pytest.mark.optimized

IMAGES = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))
KERNELS = jax.random.normal(jax.random.key(1), (2, 3, 3, 2, 2))


def convolution(images, kernel):
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.jit
def hidden(images, kernels):
    return convolution(jnp.tanh(convolution(images, kernels[0])), kernels[1])


def loss(kernels, images):
    return {"loss": jnp.square(hidden(images, kernels)).mean()}


def gradient(kernels, images):
    return jax.value_and_grad(lambda *args: loss(*args)["loss"])(kernels, images)


def test_stored_operands_change_neither_values_nor_gradients():
    stored = with_stored_operands(loss)
    assert stored(KERNELS, IMAGES).keys() == {"loss"}
    check_grads(lambda *args: stored(*args)["loss"], (KERNELS, IMAGES), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    for ours, plain in zip(with_stored_operands(gradient)(KERNELS, IMAGES), gradient(KERNELS, IMAGES), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-7)


def test_every_convolution_of_both_passes_reads_stored_operands():
    jaxpr = jax.make_jaxpr(with_stored_operands(gradient))(KERNELS, IMAGES).jaxpr
    stored = {
        variable
        for equation in jaxpr.eqns
        if equation.primitive.name == "optimization_barrier"
        for variable in equation.outvars
    }
    convolutions = [equation for equation in jaxpr.eqns if equation.primitive.name == "conv_general_dilated"]
    assert len(convolutions) == 5  # two forward, two gradients of kernels, one of what lies between
    assert all(variable in stored for equation in convolutions for variable in equation.invars)


def test_convolutions_are_not_left_to_ynnpack():
    images, kernel = jnp.ones((8, 32, 32, 16)), jnp.ones((3, 3, 16, 16))
    compiled = jax.jit(convolution, compiler_options=COMPILER_OPTIONS).lower(images, kernel).compile()
    assert "convolution(" in compiled.as_text() and "ynn_fusion" not in compiled.as_text()


@pytest.mark.slow  # it counts page faults, which depend on what else the system does
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of other C libraries is left alone")
def test_kept_memory_is_used_again():
    program = """
import resource
import jax, jax.numpy as jnp
from saal_jax.engine.cpu import keep_memory
keep_memory()
step, array = jax.jit(jnp.sin), jnp.ones(2**24)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(10):
    if number == 5:
        before = faults()
    jax.block_until_ready(step(array))
assert faults() - before < 2000, faults() - before  # memory asked for anew would cost 16,384 of them each time
"""
    subprocess.run([sys.executable, "-c", program], check=True)
