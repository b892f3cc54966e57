"""Whether a file answers as the Keras model it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting.deployment import Images
from autoslim.exporting.formats import INSIDE_SHARE, INT8_AGREEMENT, INT8_LOSS, INT8_WORSE, Format
from autoslim.exporting.runtimes import Runtime
from autoslim.metrics import TOP1, Metric

if TYPE_CHECKING:
    from autoslim.tasks import Objective

IMAGES_AT_ONCE = 100


def logits_of(run: Runtime, images: Images) -> np.ndarray:
    """Outputs float32 [N, ...] of images: [N, H, W, C], batch by batch, or [h, w, C] each, one by one."""
    if not isinstance(images, np.ndarray):
        return np.concatenate([run(image[None]) for image in images])
    parts = [run(images[k : k + IMAGES_AT_ONCE]) for k in range(0, len(images), IMAGES_AT_ONCE)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Comparison:
    """Outputs of a file next to those of the Keras model, on the same images."""

    images: int
    largest_difference: float  # of an output; not a number where the file's outputs are none
    scale: float  # of the Keras model's outputs: their range, or the largest magnitude if that is more
    agreement: float | None  # share of images, or places, with the same answer; None: the task has values
    metric: float | None  # of the file, by the task; None: no labels
    reference_metric: float | None  # of the Keras model
    measure: Metric = TOP1  # what the metric is


def compare(
    logits: np.ndarray, reference: np.ndarray, labels: Any | None, objective: Objective | None = None
) -> Comparison:
    """Compare outputs [N, ...] of a file with those of the Keras model.

    Args:
        logits: of the file.
        reference: of the Keras model.
        labels: of the images; None: not known.
        objective: what answers are judged by; None: they are logits of classes.

    >>> compare(np.array([[0.0, 1.5]]), np.array([[0.0, 2.0]]), np.array([1])).largest_difference
    0.5

    Raises:
        AutoslimError: if they differ in shape.
    """
    if logits.shape != reference.shape:
        raise AutoslimError(
            f"The file returns logits of shape {list(logits.shape)}, the Keras model {list(reference.shape)}."
        )
    from autoslim.tasks import objective_of

    judged = objective or objective_of("classification", None)
    metric, reference_metric = (
        None if labels is None else float(np.mean(judged.scored(labels, one))) for one in (logits, reference)
    )
    return Comparison(
        images=len(reference),
        largest_difference=float(np.abs(logits - reference).max()),
        scale=float(max(np.ptp(reference), np.abs(reference).max())),
        agreement=judged.agreement(logits, reference),
        metric=metric,
        reference_metric=reference_metric,
        measure=judged.metric,
    )


def demand(name: str, kind: Format, found: Comparison, inside: bool = False) -> None:
    """Refuse a file that is not the Keras model.

    Args:
        name: of the format.
        kind: the format, with its tolerance.
        found: how the file compares.
        inside: whether the preprocessing is in the file: `INSIDE_SHARE` is allowed then.

    Raises:
        AutoslimError: naming format, difference and tolerance.
    """
    if kind.share is None:
        _demand_answers(name, found)
        return
    share = max(kind.share, INSIDE_SHARE) if inside else kind.share
    allowed = share * found.scale
    if not found.largest_difference <= allowed:
        raise AutoslimError(
            f"{name}: its outputs differ from the Keras model's by up to {found.largest_difference:.3g}; "
            f"expected at most {allowed:.3g} ({share:g} of their scale, {found.scale:.3g}). The file "
            "was not kept. A layer is not translated faithfully: leave this format out, or replace the layer."
        )


def _demand_answers(name: str, found: Comparison) -> None:
    n = found.images
    way_out = "The file was not kept. Give more, or more varied, calibration images, or use litert_float16."
    others = 0 if found.agreement is None else round((1 - found.agreement) * n)
    if found.agreement is not None and others > max((1 - INT8_AGREEMENT) * n, 1):
        raise AutoslimError(
            f"{name}: for {found.agreement:.1%} of {n} images its class is the Keras model's; expected at "
            f"least {INT8_AGREEMENT:.0%} (largest difference of a logit: {found.largest_difference:.3g}). "
            f"{way_out}"
        )
    if found.metric is None or found.reference_metric is None:
        return
    measure = found.measure
    fall, allowed = -measure.gain(found.metric, found.reference_metric), f"{100 * INT8_LOSS:g} points"
    if measure.percent:
        refused = round(fall * n) > max(INT8_LOSS * n, 1)
        shown = [f"{value:.1%}" for value in (found.metric, found.reference_metric)]
    else:
        refused, allowed = fall > INT8_WORSE * abs(found.reference_metric), f"{100 * INT8_WORSE:g} % of it"
        shown = [measure.text(value) for value in (found.metric, found.reference_metric)]
    if refused:
        what = "a fall" if measure.higher else "a rise"
        raise AutoslimError(
            f"{name}: {measure.label} on {n} images is {shown[0]}, and the Keras model's is {shown[1]}; "
            f"expected {what} of at most {allowed}. {way_out}"
        )
