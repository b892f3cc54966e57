"""The weights that a network is used with: a moving average of its last ones, in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


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
