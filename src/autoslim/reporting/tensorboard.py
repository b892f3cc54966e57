"""The report in TensorBoard: figures, accuracy against cost; hyperparameters of a sweep.

TensorBoard's horizontal axis is a whole number, the step. Accuracy against cost therefore uses as steps the
share of the full network's resource in ‰: 500 is half of its FLOPs. The supernet and each kind of network
(`kinds.KINDS`) are runs of their own with the same tags, so that TensorBoard lays their curves over each
other in one chart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams

from autoslim.kinds import KINDS
from autoslim.metrics import Metric
from autoslim.reporting.figures import to_image
from autoslim.reporting.network import NetworkResult, measure_of
from autoslim.resources import RESOURCES, Cost

if TYPE_CHECKING:
    from autoslim.slimming.trajectory import Trajectory

STEPS = 1000  # of accuracy against cost, for the full network


def write_report(
    folder: str | os.PathLike[str],
    results: Sequence[NetworkResult],
    full: Cost,
    resource: str = "flops",
    trajectory: Trajectory | None = None,
    figures: Mapping[str, Figure] | None = None,
) -> None:
    """Write event files, in place of those of an earlier report.

    Args:
        folder: of the event files: `figures/<name>` stand in it; its sub-folders are a run for each kind of
            network, such as `baseline` and `autoslim` (test images), and `supernet` (held-out images).
            The search's own curves stand in its folder.
        results: the trained networks.
        full: what the full network costs.
        resource: against which the metric and the loss are shown: `accuracy/top1_by_<resource>`.
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
    _charts(root, measure, resource)
    for kind in KINDS:
        chosen = [r for r in results if r.kind == kind]
        own = [(r.share(resource, full), r.metric, r.loss) for r in chosen]
        _curve(root / kind, own, "test images", measure, resource)
    if trajectory is not None:
        points = [(p.cost.of(resource) / full.of(resource), p.metric, p.loss) for p in trajectory.points]
        images = "held-out training images, the supernet's weights"
        _curve(root / "supernet", points, images, measure, resource)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Summaries go into the folder; written and closed at the end."""
    writer = tf.summary.create_file_writer(str(folder))
    try:
        with writer.as_default(), tf.summary.record_if(True):
            yield
    finally:
        writer.close()


def _curve(
    folder: Path, points: Iterable[tuple[float, float, float]], images: str, measure: Metric, resource: str
) -> None:
    """(share of the full network's resource, metric, loss) as two curves, from small to large."""
    points = sorted(points)
    if not points:
        return
    with _writing(folder):
        about = f"against ‰ of the full network's {RESOURCES[resource].label} (the step); {images}"
        for share, metric, loss in points:
            for name, label, value in (
                (measure.name, measure.label, metric),
                ("loss", "loss", loss),
            ):
                text = f"{label[0].upper()}{label[1:]} {about}"
                tag = f"accuracy/{name}_by_{resource}"
                tf.summary.scalar(tag, value, step=round(STEPS * share), description=text)


def write_hparams(
    folder: str | os.PathLike[str], overrides: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """What one job of a sweep was given, and what came out, for TensorBoard's table of hyperparameters.

    What a job's method found is "slimmed" there, so that methods can be compared in one column.

    Args:
        folder: of the job.
        overrides: "key=value", as typed.
        rows: of its networks, as in a sweep's summary.
    """
    pairs = [text.lstrip("+").partition("=") for text in overrides]
    given = {key: _number(value) for key, _, value in pairs}
    with _writing(Path(folder)):
        hparams.hparams(given, trial_id=" ".join(overrides) or "no overrides")
        for row in rows:
            kind = KINDS[row["network"]]
            label = "slimmed" if kind.method and kind.method.name != "uniform" else kind.label
            label += "" if row["target"] is None else f" {row['target']:g}"
            measure = row.get("measure", {}).get("name", "metric")
            figures = {measure: "metric", "FLOPs share": "flops_share", "parameters": "params"}
            for name, figure in figures.items():
                if figure in row:
                    tf.summary.scalar(f"{name}/{label}", row[figure], step=0)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _charts(folder: Path, measure: Metric, resource: str) -> None:
    """A page of custom scalars: all kinds of networks and the supernet in one chart against cost."""
    charts = [
        layout_pb2.Chart(
            title=f"{title} against {RESOURCES[resource].label} (‰ of the full network)",
            multiline=layout_pb2.MultilineChartContent(tag=[f"^accuracy/{name}_by_{resource}$"]),
        )
        for title, name in ((measure.label, measure.name), ("loss", "loss"))
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="networks", chart=charts)])
    with _writing(folder):
        serialized = custom_scalar.pb(layout).SerializeToString()
        tf.summary.experimental.write_raw_pb(serialized, step=0)
