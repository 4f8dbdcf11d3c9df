"""What was asked for last, to be looked at: images with their true and their predicted boxes or masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.setup import Setup
from saal_jax.boxes import PADDING, Boxes
from saal_jax.labels import nothing_known, tell
from saal_jax.loop import Asked
from saal_jax.moves import VOID
from saal_jax.tasks import Task
from saal_jax.typing import PyTree

MOST = 12  # images on a sheet, the first to be chosen


def draw_queried(path: Path, task: str, setup: Setup, asked: Asked) -> None:
    """Writes a sheet of the images that were asked for first: as they are, with true and with predicted labels.

    Writes nothing where labels have no place in the image, or the model has not answered yet.
    """
    if task not in DRAWN or asked.predicted is None or not len(asked.indices):
        return
    from matplotlib.figure import Figure  # without pyplot no screen is asked for
    from matplotlib.patches import Patch

    indices = asked.indices[:MOST]
    positions = setup.problem.task.image_of(indices)
    images, names = np.asarray(setup.problem.pool.images[positions]), setup.problem.pool.names[positions]
    columns = {"": None, "true": setup.oracle(indices), "predicted": asked.predicted}
    figure = Figure(figsize=(3 * len(columns), 2.4 * len(indices)), layout="constrained")
    for row, axes in enumerate(figure.subplots(len(indices), len(columns), squeeze=False)):
        for (title, answers), place in zip(columns.items(), axes, strict=True):
            place.imshow(images[row].squeeze(), cmap="gray", vmin=0, vmax=255)
            place.set(xticks=[], yticks=[], title=title or f"{names[row]}  {asked.scores[row]:.3g}".replace("$", r"\$"))
            if answers is not None:
                label = _label(setup.problem.task, indices[row], jax.tree.map(lambda part: part[row], answers))  # noqa: B023
                DRAWN[task](place, label, setup.class_names)
    classes = [Patch(color=_color(number), label=f" {name}") for number, name in enumerate(setup.class_names)]
    figure.legend(handles=classes, loc="outside lower center", ncols=6, fontsize=8)
    temporary = path.with_name(path.name + ".new")
    figure.savefig(temporary, dpi=80, format="png")
    temporary.replace(path)


def _label(task: Task, index: np.ndarray, answer: PyTree) -> PyTree:
    """The label of one image of which this answer alone is known."""
    answers = jax.tree.map(lambda part: np.asarray(part)[None], answer)
    labels = tell(nothing_known(task, 1), np.asarray(task.region_of(index))[None], answers, task)
    return jax.tree.map(lambda array: array[0], labels.values)


def _draw_boxes(axes: Any, label: Boxes, class_names: tuple[str, ...]) -> None:
    from matplotlib.patches import Rectangle

    height, width = axes.images[0].get_array().shape[:2]
    for corners, number in zip(label.corners, label.classes, strict=True):
        if number != PADDING:
            x, y, right, bottom = np.asarray(corners) * [width, height, width, height] - 0.5
            color = _color(int(number))
            axes.add_patch(Rectangle((x, y), right - x, bottom - y, fill=False, edgecolor=color, linewidth=1.2))
            axes.text(x, y, class_names[number].replace("$", r"\$"), color=color, fontsize=6, va="bottom", clip_on=True)


def _draw_mask(axes: Any, label: np.ndarray, class_names: tuple[str, ...]) -> None:
    colors = np.array([(*_color(number)[:3], 0.55) for number in range(len(class_names))])
    shown = np.zeros((*label.shape, 4))
    shown[label != VOID] = colors[label[label != VOID]]
    axes.imshow(shown, interpolation="nearest")


def _color(number: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["tab20"]((2 * number + number // 10) % 20)  # the ten strong ones first


DRAWN: dict[str, Callable] = {"detection": _draw_boxes, "segmentation": _draw_mask}
