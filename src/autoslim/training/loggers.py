"""Loggers besides TensorBoard. What goes wrong in another package is said, and never ends a training."""

from __future__ import annotations

import csv
import importlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from autoslim.errors import AutoslimError, first_line
from autoslim.writing import write_whole

log = logging.getLogger("autoslim")

CSV = "metrics.csv"
PROJECT = "autoslim"  # in trackers


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
            project=PROJECT, name=name, id=folder.name, dir=str(folder), resume="allow", reinit=True
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """A run of MLflow for each training, found again by its tag; MLFLOW_TRACKING_URI and the like hold."""

    def __init__(self, folder: Path, description: str, step: int) -> None:
        self._mlflow = _module("mlflow")
        experiment = self._mlflow.set_experiment(PROJECT)
        tag = f"{PROJECT}.folder"
        begun: list[Any] = []
        if step:
            wanted = f"tags.`{tag}` = '{folder.name}'"
            begun = self._mlflow.MlflowClient().search_runs([experiment.experiment_id], wanted, max_results=1)
        again = {"run_id": begun[0].info.run_id} if begun else {}
        name = f"{folder.parent.name} {description}"
        self._mlflow.start_run(run_name=name, nested=True, tags={tag: folder.name}, **again)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class _Guarded:
    """A logger of another package: where it fails, a warning says so once, and the training goes on."""

    def __init__(self, name: str, make: Callable[[Path, str, int], Logger], *given: Any) -> None:
        self._name = name
        try:
            self._logger: Logger | None = make(*given)
        except AutoslimError:
            raise
        except Exception as error:  # the package may raise anything
            raise AutoslimError(
                f"train.logger={name} could not start: {first_line(error).rstrip('. ')}. Correct the "
                f"environment variables that {name} reads, or leave it out."
            ) from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda logger: logger.write(step, values), f"at step {step}")

    def close(self) -> None:
        self._try(lambda logger: logger.close(), "at the end")

    def _try(self, call: Callable[[Logger], None], when: str) -> None:
        if self._logger is None:
            return
        try:
            call(self._logger)
        except Exception as error:  # the package may raise anything
            self._logger = None
            reason = first_line(error)
            log.warning(
                "train.logger=%s failed %s, and the training goes on without it: %s", self._name, when, reason
            )


_OTHERS: dict[str, Callable[[Path, str, int], Logger]] = {"wandb": _Wandb, "mlflow": _Mlflow}


def start_logger(name: str, folder: Path, description: str, step: int) -> Logger:
    """Start the logger that a word of `train.logger` names.

    Args:
        name: csv, wandb or mlflow.
        folder: of the training; its name is unique, that of the folder above it says network and images.
        description: of the training.
        step: steps that were taken before.

    Raises:
        AutoslimError: for a package that is not installed, or cannot start.
    """
    given = (folder, description, step)
    return _Csv(*given) if name == "csv" else _Guarded(name, _OTHERS[name], *given)


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
