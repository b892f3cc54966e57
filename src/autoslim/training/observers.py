"""Who else follows a training: loggers, and Keras callbacks. They decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.importing import function_at
from autoslim.training.loggers import Logger, start_logger

if TYPE_CHECKING:
    from autoslim.training.steps import Step


class Observers:
    """The loggers and callbacks of one training."""

    def __init__(self, loggers: list[Logger], callbacks: keras.callbacks.CallbackList | None) -> None:
        self._loggers, self._callbacks = loggers, callbacks
        if callbacks is not None:
            callbacks.on_train_begin()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve, after a number of steps."""
        for logger in self._loggers:
            logger.write(step, values)

    def epoch_ended(self, epoch: int, means: Mapping[str, float]) -> None:
        """An epoch is over, the first being 1 (to Keras: 0), with its mean metrics."""
        if self._callbacks is not None:
            self._callbacks.on_epoch_end(epoch - 1, {k: v for k, v in means.items() if k != "epoch"})

    def close(self) -> None:
        """The training is over, or stopped."""
        for logger in self._loggers:
            logger.close()
        if self._callbacks is not None:
            self._callbacks.on_train_end()


def observers_for(step: Step, folder: Path | None, description: str, done: int) -> Observers:
    """Those that the options of a training ask for.

    Args:
        step: of the training, with its options.
        folder: of the training; None: nothing is written, and no logger is called.
        description: of the training.
        done: steps that were taken before.

    Raises:
        AutoslimError: for a logger that cannot start, or a callback that can't be made.
    """
    options = step.options
    names = options.logger if folder is not None else []
    loggers = [start_logger(name, folder, description, done) for name in names if folder]
    made = [_callback(name, dict(given)) for name, given in options.callbacks.items()]
    return Observers(loggers, keras.callbacks.CallbackList(made, model=step.model) if made else None)


def _callback(name: str, given: dict[str, Any]) -> keras.callbacks.Callback:
    """A callback out of its section."""
    key = f"train.callbacks.{name}"
    path = given.pop("_target_", None)
    if not isinstance(path, str):
        raise AutoslimError(f"{key} has no _target_: expected {{_target_: my.module.Callback, NAME: VALUE}}.")
    make = function_at(path, f"{key}._target_", "a Keras callback")
    try:
        callback = make(**given)
    except (TypeError, ValueError) as error:
        raise AutoslimError(f"{key}: {path} refused its arguments: {first_line(error)}.") from error
    if not isinstance(callback, keras.callbacks.Callback):
        raise AutoslimError(f"{key}: {path} returned a {type(callback).__name__}: expected a Keras callback.")
    return callback
