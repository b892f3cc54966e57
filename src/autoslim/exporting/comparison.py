"""Whether a file answers as the Keras model it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting.deployment import Images
from autoslim.exporting.formats import INSIDE_SHARE, INT8_AGREEMENT, INT8_LOSS, Format
from autoslim.exporting.runtimes import Runtime

IMAGES_AT_ONCE = 100


def logits_of(run: Runtime, images: Images) -> np.ndarray:
    """Logits float32 [N, classes] of images: [N, H, W, C], batch by batch, or [h, w, C] each, one by one."""
    if not isinstance(images, np.ndarray):
        return np.concatenate([run(image[None]) for image in images])
    parts = [run(images[k : k + IMAGES_AT_ONCE]) for k in range(0, len(images), IMAGES_AT_ONCE)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Comparison:
    """Logits of a file next to those of the Keras model, on the same images."""

    images: int
    largest_difference: float  # of a logit; not a number where the file's logits are none
    scale: float  # of the Keras model's logits: their range, or the largest magnitude if that is more
    agreement: float  # share of images with the same largest logit
    top1: float | None  # of the file: share of images whose answer is correct; None: no labels
    reference_top1: float | None  # of the Keras model


def compare(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray | None) -> Comparison:
    """Compare logits [N, classes] of a file with those of the Keras model.

    >>> compare(np.array([[0.0, 1.5]]), np.array([[0.0, 2.0]]), np.array([1])).largest_difference
    0.5

    Raises:
        AutoslimError: if they differ in shape.
    """
    if logits.shape != reference.shape:
        raise AutoslimError(
            f"The file returns logits of shape {list(logits.shape)}, the Keras model {list(reference.shape)}."
        )
    answers, expected = logits.argmax(-1), reference.argmax(-1)
    return Comparison(
        images=len(reference),
        largest_difference=float(np.abs(logits - reference).max()),
        scale=float(max(np.ptp(reference), np.abs(reference).max())),
        agreement=float(np.mean(answers == expected)),
        top1=None if labels is None else float(np.mean(answers == labels)),
        reference_top1=None if labels is None else float(np.mean(expected == labels)),
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
            f"{name}: its logits differ from the Keras model's by up to {found.largest_difference:.3g}; "
            f"expected at most {allowed:.3g} ({share:g} of their scale, {found.scale:.3g}). The file "
            "was not kept. A layer is not translated faithfully: leave this format out, or replace the layer."
        )


def _demand_answers(name: str, found: Comparison) -> None:
    n = found.images
    way_out = "The file was not kept. Give more, or more varied, calibration images, or use litert_float16."
    others = round((1 - found.agreement) * n)
    if others > max((1 - INT8_AGREEMENT) * n, 1):
        raise AutoslimError(
            f"{name}: for {found.agreement:.1%} of {n} images its class is the Keras model's; expected at "
            f"least {INT8_AGREEMENT:.0%} (largest difference of a logit: {found.largest_difference:.3g}). "
            f"{way_out}"
        )
    if found.top1 is None or found.reference_top1 is None:
        return
    fall = found.reference_top1 - found.top1
    if round(fall * n) > max(INT8_LOSS * n, 1):
        raise AutoslimError(
            f"{name}: top-1 on {n} images is {found.top1:.1%}, and the Keras model's is "
            f"{found.reference_top1:.1%}; expected a fall of at most {100 * INT8_LOSS:g} points. {way_out}"
        )
