"""The settings of a run that is through in seconds, and what is compared of its results."""

import json
from pathlib import Path
from typing import Any

TINY = {
    "arch": "resnet20",
    "arch.depth": 8,
    "arch.width": 8,
    "dataset.train_images": 120,
    "train.batch_size": 40,
    "train.calibration_batches": 1,
    "train.deterministic": "false",  # it would hold for the whole process, other tests included
    "baseline.epochs": 1,
    "supernet.epochs": 1,
    "supernet.arms": 2,
    "retrain.epochs": 1,
    "slim.levels": 2,
    "slim.min_width": 0.5,
}


def parameters(model) -> float:
    """A measurement for slim.measure that depends on no machine: millions of parameters."""
    return model.count_params() / 1e6


def lasting(path: Path) -> dict[str, Any]:
    """What a result.json holds that is the same in every run: not its time, nor its files' bytes."""
    result = json.loads(path.read_text())
    return {name: value for name, value in result.items() if name not in ("seconds", "files", "seal")}
