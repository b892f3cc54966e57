"""Who else follows a training: loggers besides TensorBoard, and Keras callbacks. They decide nothing."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.importing import function_at
from autoslim.writing import write_whole

if TYPE_CHECKING:
    from autoslim.training.steps import Step

CSV = "metrics.csv"


class Logger(Protocol):
    """Where the points of curves go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""

    def close(self) -> None:
        """No more points come."""


class _Csv:
    """metrics.csv in a folder: step, name, value. What a killed process wrote of later steps is left out."""

    def __init__(self, folder: Path, description: str, step: int) -> None:
        path = folder / CSV
        kept = [["step", "name", "value"]]
        if step and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if len(row) == 3]
            kept += [row for row in rows if row[0].isdigit() and int(row[0]) <= step]
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{','.join(row)}\n" for row in kept))
        self._file = path.open("a", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file, lineterminator="\n")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._rows.writerows([step, name, f"{float(value):.7g}"] for name, value in values.items())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class _Wandb:
    """A run of Weights & Biases for each training; WANDB_MODE, WANDB_PROJECT and the like hold."""

    def __init__(self, folder: Path, description: str, step: int) -> None:
        wandb = _module("wandb")
        name = f"{folder.parent.name} {description}"
        self._run = wandb.init(
            project=_project(), name=name, id=folder.name, dir=str(folder), resume="allow", reinit=True
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """A run of MLflow for each training; MLFLOW_TRACKING_URI and the like hold."""

    def __init__(self, folder: Path, description: str, step: int) -> None:
        self._mlflow = _module("mlflow")
        self._mlflow.set_experiment(_project())
        self._mlflow.start_run(run_name=f"{folder.parent.name} {description}", nested=True)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


_LOGGERS: dict[str, Callable[[Path, str, int], Logger]] = {"csv": _Csv, "wandb": _Wandb, "mlflow": _Mlflow}


def _project() -> str:
    return "autoslim"


def _module(name: str) -> ModuleType:
    """A package that is not installed with autoslim.

    Raises:
        AutoslimError: if it is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise AutoslimError(
            f"train.logger={name} needs a package that is not installed: pip install {name}"
        ) from error


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
        AutoslimError: for a package that is not installed, or a callback that can't be made.
    """
    options = step.options
    names = options.logger if folder is not None else []
    loggers: list[Logger] = [_LOGGERS[name](folder, description, done) for name in names if folder]
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
