"""Warnings that a stage leaves in its result, so that whoever reads the result later sees them too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.datasets.labels import taken
from autoslim.metrics import kept_values
from autoslim.reporting.statistics import guessing, near_chance, standard_error
from autoslim.scoring import unweighted
from autoslim.tasks.guessing import guessed

if TYPE_CHECKING:
    from autoslim.stages.experiment import Experiment

WARNINGS = "warnings"  # of a result: a list of sentences
_SECTIONS = {"supernet": "supernet", "retrain": "retrain", "uniform": "retrain"}  # else baseline


def warnings_of(result: dict[str, Any]) -> list[str]:
    """The warnings that a stage left."""
    return [str(text) for text in result.get(WARNINGS, ())]


def labelled_warnings(finished: Mapping[str, dict[str, Any]]) -> list[str]:
    """The warnings of all stages, label -> result, each after its stage's label."""
    return [f"{label}: {text}" for label, result in finished.items() for text in warnings_of(result)]


def warned(*texts: str) -> dict[str, list[str]]:
    """The part of a stage's result that holds its warnings; empty texts are left out."""
    found = [text for text in texts if text]
    return {WARNINGS: found} if found else {}


def failed(experiment: Experiment, stage: str, result: Mapping[str, Any]) -> dict[str, list[str]]:
    """The warning of a stage whose network is near chance on the test images; {} for one that is not."""
    text = chance_warning(experiment, kept_values(result), experiment.data.test_labels, "test images")
    return warned(text and f"{text} {_way_out(experiment, stage)}")


def failed_held_out(experiment: Experiment, stage: str, values: np.ndarray) -> str:
    """As `failed`, of a network's metric on each held-out image: the warning, or ""."""
    labels = taken(experiment.data.holdout_labels, experiment.holdout_index())
    text = chance_warning(experiment, values, labels, "held-out images, at full width,")
    return text and f"{text} What is searched in it means nothing. {_way_out(experiment, stage)}"


def chance_warning(experiment: Experiment, values: np.ndarray, labels: Any, images: str) -> str:
    """A sentence for a metric near chance; "" for one that is clearly above it.

    Args:
        experiment: of the run.
        values: the metric of each image, [N].
        labels: of the images.
        images: what they are called.
    """
    measure, mean = experiment.task.metric, float(np.mean(values))
    guess = chance_of(experiment, labels)
    if not is_near_chance(experiment, values, guess):
        return ""
    text = f"{measure.label} {measure.text(mean)} on {len(values):,} {images} is near chance"
    if experiment.plain:
        return f"{text}: guessing reaches {100 * guess:.1f} %."
    return f"{text}: the best constant answer reaches {measure.text(guess)}."


def chance_of(experiment: Experiment, labels: Any) -> float:
    """The metric of the best answer that does not look at images; NaN: not known for the task."""
    if experiment.plain:
        return guessing(unweighted(labels)[0], experiment.classes)
    found = guessed(experiment.task, labels)
    return math.nan if found is None else found


def is_near_chance(experiment: Experiment, values: np.ndarray, chance: float) -> bool:
    """Whether a metric, given image by image, may be near what guessing reaches.

    See `reporting.statistics.near_chance`; of other metrics than accuracies, whether it may be no better.
    """
    mean = float(np.mean(values))
    if experiment.plain:
        return near_chance(mean, len(values), chance)
    return experiment.task.metric.gain(mean, chance) <= 1.96 * standard_error(values)


def _way_out(experiment: Experiment, stage: str) -> str:
    section = _SECTIONS.get(stage, "baseline")
    now = getattr(experiment, section)
    return (
        f"The training has failed. Try a longer warm-up ({section}.warmup_epochs={now.warmup_epochs:g} now), "
        f"a lower rate ({section}.learning_rate={now.learning_rate:g}), or more epochs "
        f"({section}.epochs={now.epochs})."
    )
