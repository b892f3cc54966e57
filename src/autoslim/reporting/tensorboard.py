"""The report in TensorBoard: figures, accuracy against FLOPs, widths over the search.

TensorBoard's horizontal axis is a whole number, the step. Accuracy against FLOPs therefore uses thousands of
FLOPs as steps: the axis reads 20k for 20 M. The supernet and each kind of network (`kinds.KINDS`) are runs
of their own with the same tags, so that TensorBoard lays their curves over each other in one chart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf
from matplotlib.figure import Figure

from autoslim.kinds import KINDS
from autoslim.metrics import Metric
from autoslim.reporting.figures import to_image
from autoslim.reporting.network import NetworkResult, measure_of

if TYPE_CHECKING:
    from autoslim.slimming.trajectory import Trajectory

LOSS = "accuracy/loss_by_kflops"


def write_report(
    folder: str | os.PathLike[str],
    results: Sequence[NetworkResult],
    trajectory: Trajectory | None = None,
    figures: Mapping[str, Figure] | None = None,
) -> None:
    """Write event files, in place of those of an earlier report.

    Args:
        folder: of the event files: `figures/<name>` stand in it; its sub-folders are a run for each kind of
            network, such as `baseline` and `autoslim` (test images), `supernet` (held-out images), and
            `search`, whose step is the search's: `widths/<group>`, `search/share`, `search/top1` (or the
            metric of another task),
            `search/loss`.
        results: the trained networks.
        trajectory: of the search.
        figures: name -> figure.
    """
    root = Path(folder)
    for run in ("", *KINDS, "supernet", "search"):
        for path in (root / run).glob("events.out.tfevents.*"):
            path.unlink()
    if figures:
        with _writing(root):
            for name, figure in figures.items():
                tf.summary.image(f"figures/{name}", to_image(figure), step=0)
    measure = measure_of(results)
    for kind in KINDS:
        chosen = [r for r in results if r.kind == kind]
        _curve(root / kind, [(r.flops, r.metric, r.loss) for r in chosen], "test images", measure)
    if trajectory is not None:
        points = [(p.flops, p.metric, p.loss) for p in trajectory.points]
        images = "held-out training images, the supernet's weights"
        _curve(root / "supernet", points, images, measure)
        _search(root / "search", trajectory, measure)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Summaries go into the folder; written and closed at the end."""
    writer = tf.summary.create_file_writer(str(folder))
    try:
        with writer.as_default(), tf.summary.record_if(True):
            yield
    finally:
        writer.close()


def _curve(folder: Path, points: Iterable[tuple[int, float, float]], images: str, measure: Metric) -> None:
    """(FLOPs, metric, loss) as two curves, from small to large."""
    points = sorted(points)
    if not points:
        return
    with _writing(folder):
        for flops, metric, loss in points:
            step = round(flops / 1000)
            text = f"{{}} against thousands of FLOPs (the step); {images}"
            tag, title = f"accuracy/{measure.name}_by_kflops", measure.label[0].upper() + measure.label[1:]
            tf.summary.scalar(tag, metric, step=step, description=text.format(title))
            tf.summary.scalar(LOSS, loss, step=step, description=text.format("Loss"))


def _search(folder: Path, trajectory: Trajectory, measure: Metric) -> None:
    with _writing(folder):
        for step, point in enumerate(trajectory.points):
            tf.summary.scalar("search/share", point.share, step=step)
            tf.summary.scalar(f"search/{measure.name}", point.metric, step=step)
            tf.summary.scalar("search/loss", point.loss, step=step)
            for name, width in trajectory.channels(point).items():
                tf.summary.scalar(f"widths/{name}", width, step=step)
