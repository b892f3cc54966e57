"""What whoever deploys a network of a run must know, from the run's configuration and data."""

from __future__ import annotations

from typing import Any

from autoslim.exporting.deployment import Deployment, Preprocessing
from autoslim.stages.experiment import Experiment
from autoslim.tasks import objective_of

ANSWERS = {
    "linear": "logits, no softmax",
    "softmax": "probabilities, of a softmax",
    "log_softmax": "logarithms of probabilities",
    "sigmoid": "a probability of each class, of a sigmoid",
}
"""What a network returns, by its end (`tasks.ends.end_of`)."""


def deployment_of(experiment: Experiment, result: dict[str, Any] | None = None) -> Deployment:
    """What whoever deploys a network of this configuration must know.

    Args:
        experiment: of the run.
        result: what the stage that trained it wrote, for its top-1.
    """
    data, export = experiment.data, experiment.config.export
    height_width = export.input_size
    end = objective_of(experiment.task, experiment.plan).main.end
    return Deployment(
        Preprocessing(data.shape, tuple(data.mean), tuple(data.std), data.eval_crop),
        data.class_names,
        None if result is None else result.get("top1"),
        None if result is None else result["test_images"],
        inside=export.preprocessing == "inside",
        input_size=None if height_width is None else (height_width[0], height_width[1]),
        answers=ANSWERS.get(end, ANSWERS["linear"]),
    )
