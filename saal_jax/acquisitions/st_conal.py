"""ST-CoNAL (Baik, Yoon and Choi, ACCV 2022): late snapshots of the training disagree with their sharpened average.

Cost: S + 1 forward passes per example, of S students and the teacher.
Scales: time N log N, memory N.
"""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Gt

from saal_jax.acquisitions._scored import scored
from saal_jax.tasks import Task
from saal_jax.typing import Array

_GUARD = 1e-14  # added to a student's probability, as released


def st_conal(
    teacher: Callable, students: Callable, task: Task, *, temperature: Annotated[float, Gt(0)] = 0.7
) -> Callable:
    """The images on which the students differ most from the teacher; `temperature` below 1 sharpens the teacher."""

    def score_fn(weights, images):
        return task.by_candidate(disagreement(teacher(weights, images), students(weights, images), temperature))

    return scored(score_fn)


def disagreement(teacher_logits: Array, student_logits: Array, temperature: float) -> jax.Array:
    """Mean over the students of KL(q || p_s + 1e-14), with q = p^(1/T) / sum p^(1/T) of the teacher's p.

    In nats, `[B, ...]`, of `teacher_logits[B, ..., C]` and `student_logits[B, S, ..., C]`. A power of probabilities is
    a multiple of logits: q = softmax(logits / T).

    >>> import jax.numpy as jnp
    >>> teacher, students = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[[0.5, 0.5], [0.9, 0.1]]]))
    >>> print(disagreement(teacher, students, 0.7).round(4))  # (0 + log(0.5 / 0.3)) / 2
    [0.2554]
    """
    q = jax.nn.log_softmax(teacher_logits / temperature)[:, None]
    difference = q - jnp.log(jax.nn.softmax(student_logits) + _GUARD)
    return jnp.where(q == -jnp.inf, 0, jnp.exp(q) * difference).sum(-1).mean(1)
