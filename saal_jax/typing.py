"""The types that arguments are annotated with. Shapes and dtypes stand in the docstrings, as `images[B, H, W, C]`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray  # wherever it is
Images = Any  # [N, H, W, C], uint8 as stored: anything with `shape`, `dtype` and `array[positions]`, also on disk
PyTree = Any  # of arrays
ImageSize = int | tuple[int, int] | None  # pixels of height and width, or (height, width); None = as stored
Key = jax.Array  # typed, or raw where a user passes it

ApplyFn = Callable[[PyTree, jax.Array], PyTree]  # (params, images[B, ...]) -> outputs[B, ...]
LossFn = Callable[[PyTree, PyTree], jax.Array]  # (outputs, label) -> losses[...], of one example
PseudoLabelFn = Callable[[PyTree], PyTree]  # outputs -> label, of one example
ScoreFn = Callable[..., PyTree]  # (params, chunk[B, ...]) -> [B, ...]; with keys [B] in third place where it draws
Oracle = Callable[[np.ndarray], PyTree]  # indices[k] -> answers[k, ...]
Progress = Callable[[str, int, int], None]  # (phase, done, total)
