"""Warnings that a stage leaves in its result, so that whoever reads the result later sees them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.reporting.statistics import guessing, near_chance

if TYPE_CHECKING:
    from autoslim.stages.experiment import Experiment

WARNINGS = "warnings"  # of a result: a list of sentences
_SECTIONS = {"supernet": "supernet", "retrain": "retrain", "uniform": "retrain"}  # else baseline


def warnings_of(result: dict[str, Any]) -> list[str]:
    """The warnings that a stage left."""
    return [str(text) for text in result.get(WARNINGS, ())]


def told(finished: Mapping[str, dict[str, Any]]) -> list[str]:
    """The warnings of all stages, label -> result, each after its stage's label."""
    return [f"{label}: {text}" for label, result in finished.items() for text in warnings_of(result)]


def warned(*texts: str) -> dict[str, list[str]]:
    """The part of a stage's result that holds its warnings; empty texts are left out."""
    found = [text for text in texts if text]
    return {WARNINGS: found} if found else {}


def failed(experiment: Experiment, stage: str, top1: float) -> dict[str, list[str]]:
    """The warning of a stage whose network is near chance on the test images; {} for one that is not."""
    text = chance_told(top1, experiment.data.test_labels, experiment.classes, "test images")
    return warned(text and f"{text} {_way_out(experiment, stage)}")


def failed_held_out(experiment: Experiment, stage: str, top1: float) -> str:
    """As `failed`, of a network on the held-out images: the warning, or ""."""
    labels = experiment.data.holdout_labels[experiment.holdout_index()]
    text = chance_told(top1, labels, experiment.classes, "held-out images, at full width,")
    return text and f"{text} What is searched in it means nothing. {_way_out(experiment, stage)}"


def chance_told(top1: float, labels: Sequence[int] | np.ndarray, classes: int, images: str) -> str:
    """A sentence for an accuracy near chance; "" for one that is clearly above it.

    Args:
        top1: share of the images whose answer is correct.
        labels: int [N], of the images.
        classes: number of classes.
        images: what they are called.
    """
    chance = guessing(labels, classes)
    if not near_chance(top1, len(labels), chance):
        return ""
    text = f"top-1 {100 * top1:.2f} % on {len(labels):,} {images} is near chance"
    return f"{text}: guessing reaches {100 * chance:.1f} %."


def _way_out(experiment: Experiment, stage: str) -> str:
    section = _SECTIONS.get(stage, "baseline")
    now = getattr(experiment, section)
    return (
        f"The training has failed. Try a longer warm-up ({section}.warmup_epochs={now.warmup_epochs:g} now), "
        f"a lower rate ({section}.learning_rate={now.learning_rate:g}), or more epochs "
        f"({section}.epochs={now.epochs})."
    )
