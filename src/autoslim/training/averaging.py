"""The weights that a network is used with: a moving average of its last ones, or its best epoch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.training.checkpoint import Checkpoints
from autoslim.training.distribution import Strategy, is_chief, wait_for_all


def averages(optimizer: Any) -> bool:
    """Whether the optimizer keeps a moving average of the weights."""
    return bool(getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False))


def use_averages(model: Any, optimizer: Any) -> None:
    """Give the model the moving average of its weights, if the optimizer keeps one."""
    if averages(optimizer):
        optimizer.finalize_variable_values(list(model.trainable_variables))


@contextmanager
def averaged(model: Any, optimizer: Any) -> Iterator[None]:
    """Within the block the model has the moving average of its weights, if the optimizer keeps one."""
    kept = [tf.identity(tf.convert_to_tensor(v)) for v in model.trainable_variables if averages(optimizer)]
    use_averages(model, optimizer)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, kept, strict=False):
            variable.assign(value)


class BestWeights:
    """The weights of the best epoch, in a folder, or in memory where there is none."""

    def __init__(self, folder: Path | None, model: Any, strategy: Strategy) -> None:
        self._model = model
        self._strategy = strategy
        self._values: list[np.ndarray] = []
        self._saved: Checkpoints | None = None
        if folder is not None:
            self._saved = Checkpoints(folder, model, keep=1, writes=is_chief(strategy))

    def save(self, epoch: int) -> None:
        """Keep the model's weights as they are."""
        if self._saved:
            self._saved.save({"epoch": epoch})
        else:
            self._values = [np.array(v) for v in self._model.variables]

    def restore(self) -> None:
        """Give the model the weights that were kept, if any were."""
        wait_for_all(self._strategy)
        if self._saved:
            self._saved.restore()
        for variable, value in zip(self._model.variables, self._values, strict=False):
            variable.assign(value)
