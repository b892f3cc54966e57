"""Warnings that a stage leaves in its result, so that whoever reads the result later sees them too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autoslim.metrics import Metric
from autoslim.schema.training import StageConfig
from autoslim.stages.chance import Chance

LITTLE = 0.75  # of the full network's accuracy: a supernet with less than that makes a poor start
WARNINGS = "warnings"  # of a result: a list of sentences


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


def failed(chance: Chance, values: np.ndarray, section: StageConfig) -> dict[str, list[str]]:
    """The warning of a stage whose network is near chance on the test images; {} for one that is not.

    Args:
        chance: on these images.
        values: the metric of each, [N].
        section: of the configuration by which the network was trained, nothing of it null.
    """
    text = chance.warning(values, "test images")
    return warned(text and f"{text} {_way_out(section)}")


def failed_held_out(chance: Chance, values: np.ndarray, section: StageConfig) -> str:
    """As `failed`, of the held-out images and a supernet: the warning, or ""."""
    text = chance.warning(values, "held-out images, at full width,")
    return text and f"{text} What is searched in it means nothing. {_way_out(section)}"


def learnt_little(measure: Metric, supernet: Mapping[str, Any], full: Mapping[str, Any], fresh: bool) -> str:
    """A hint where the supernet, whose weights small networks begin with, is far behind the full network.

    Args:
        measure: an accuracy.
        supernet: result of the stage.
        full: result of the baseline, or of the given network.
        fresh: whether the supernet began with fresh weights.
    """
    reached, own = supernet.get(f"holdout_{measure.name}"), full.get(measure.name)
    if reached is None or own is None or reached >= LITTLE * own:
        return ""
    trained = " begin it with a trained network (supernet.init=baseline)," if fresh else ""
    return (
        f"supernet: at full width it reaches {measure.text(reached)} on held-out images, the full network "
        f"alone {measure.text(own)} on test images. It has learnt little, and small networks begin with its "
        f"weights: train it longer (supernet.epochs),{trained} or let small networks begin with one "
        "(retrain.init=baseline)."
    )


def _way_out(now: StageConfig) -> str:
    section = now.section
    return (
        f"The training has failed. Try a longer warm-up ({section}.warmup_epochs={now.warmup_epochs:g} now), "
        f"a lower rate ({section}.learning_rate={now.learning_rate:g}), or more epochs "
        f"({section}.epochs={now.epochs})."
    )
