"""What keeps training steps that XLA compiles for a CPU fast."""

import ctypes
import platform
from collections.abc import Callable

import jax

from saal_jax.engine.jaxprs import bind, rewritten

# Reductions and products by YNNPACK, as XLA has it; convolutions by Eigen, whose gradients of kernels are up to three
# times faster.
COMPILER_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def with_stored_operands(fun: Callable) -> Callable:
    """`fun` with what enters its convolutions kept in memory as it is.

    The gradient of a kernel reads its layer's inputs transposed. XLA would compute them again while it transposes them,
    normalisation and residual path included, although the forward pass has left them in memory.
    """

    def replace(equation, inputs):
        if equation.primitive.name != "conv_general_dilated":
            return None
        return bind(equation, jax.lax.optimization_barrier(inputs))

    return rewritten(fun, replace)


def keep_memory() -> None:
    """Lets this process use memory again that it has freed; call it before JAX computes anything.

    A step takes all its memory at once and frees it, which glibc returns to the system and asks for again: a fifth to a
    third of a step's time. Only the main thread's memory can grow without bounds, so programs have to run there.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if platform.libc_ver()[0] == "glibc":
        malloc_settings = ctypes.CDLL(None).mallopt
        malloc_settings(_M_MMAP_MAX, 0)
        malloc_settings(_M_TRIM_THRESHOLD, -1)
