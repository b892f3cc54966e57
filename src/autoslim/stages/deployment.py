"""What whoever deploys a network of a run must know, from the run's configuration and data."""

from __future__ import annotations

import dataclasses
from typing import Any

from autoslim.datasets import Dataset
from autoslim.exporting.deployment import Deployment, Preprocessing
from autoslim.schema import ExportConfig
from autoslim.tasks import Objective

ANSWERS = {
    "linear": "logits, no softmax",
    "softmax": "probabilities, of a softmax",
    "log_softmax": "logarithms of probabilities",
    "sigmoid": "a probability of each class, of a sigmoid",
}
"""What a network returns, by its end (`tasks.ends.end_of`)."""


def deployment_of(data: Dataset, options: ExportConfig, objective: Objective) -> Deployment:
    """What whoever deploys a network of a run must know, its accuracy aside.

    Args:
        data: the images.
        options: section `export`.
        objective: of the network.
    """
    height_width = options.input_size
    return Deployment(
        Preprocessing(data.shape, tuple(data.mean), tuple(data.std), data.eval_crop),
        data.class_names,
        inside=options.preprocessing == "inside",
        input_size=None if height_width is None else (height_width[0], height_width[1]),
        answers=ANSWERS.get(objective.main.end, ANSWERS["linear"]),
    )


def reaching(deployment: Deployment, result: dict[str, Any]) -> Deployment:
    """The same of one network, with the top-1 in what the stage that trained it wrote."""
    return dataclasses.replace(deployment, top1=result.get("top1"), test_images=result["test_images"])
