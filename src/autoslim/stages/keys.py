"""What every stage that trains depends on: the part that the keys of all of them share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from autoslim.datasets import Dataset
from autoslim.schema import ArchConfig, Config
from autoslim.stages.images import dataset_key
from autoslim.stages.start import OURS
from autoslim.stages.store import stage_hash


def common_key(config: Config, data: Dataset, network: Callable[[], keras.Model]) -> dict[str, Any]:
    """What every stage that trains depends on.

    Args:
        config: of the run.
        data: its images.
        network: builds the network; asked where a function of the user's own may have changed.
    """
    optimizer = config.optimizer.affecting_result()
    return {
        "arch": _arch_key(config.arch, network),
        "dataset": dataset_key(config.dataset, data),
        "task": config.task.affecting_result(),
        "optimizer": {name: value for name, value in optimizer.items() if name != "learning_rate"},
        "train": config.train.affecting_result(),
        "calibration": "augmented",  # results of versions that calibrated otherwise are not used again
        "seed": config.seed,
    }


def _arch_key(config: ArchConfig, network: Callable[[], keras.Model]) -> dict[str, Any]:
    arch = dataclasses.asdict(config)
    files = [arch[key] for key in ("path", "weights") if arch.get(key) and Path(arch[key]).is_file()]
    if files:  # a model or weights of the user's: another file at the same path is another network
        arch["files"] = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    if not config._target_.startswith(OURS):
        arch["network"] = stage_hash(_structure(network()))  # a user's function may change
    return arch


def _structure(model: keras.Model) -> dict[str, Any]:
    """All that makes the network what it is, weights aside."""
    weights = [[v.path, list(v.shape), v.dtype] for v in model.variables]
    try:
        return {"config": json.loads(model.to_json()), "weights": weights}
    except Exception:  # a layer of the user's own that cannot tell its configuration
        return {"layers": [[type(layer).__name__, layer.name] for layer in model.layers], "weights": weights}
