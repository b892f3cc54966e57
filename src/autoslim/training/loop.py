"""The training loop shared by baseline, supernet and retraining. They differ in their step only."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets import BatchSource
from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import progress
from autoslim.training.checkpoint import Checkpoints
from autoslim.training.distribution import is_chief, peers_watched
from autoslim.training.feed import batches_for, refusals_told
from autoslim.training.interruption import deferred_interruption
from autoslim.training.optimizers import learning_rate
from autoslim.training.steps import Step

History = list[dict[str, float]]  # one dict of mean metrics per epoch


def train(
    step: Step,
    batches: BatchSource,
    epochs: int,
    *,
    folder: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    log_steps: int = 20,
    description: str = "training",
) -> History:
    """Train for `epochs` passes over `batches`, from where an earlier call with the same folder stopped.

    Step k of epoch e is a function of the batches' seed, e and k alone, and a checkpoint holds all else, so a
    training that was interrupted ends with the same bits as one that was not.

    Args:
        step: a `PlainStep` or `SandwichStep`.
        batches: of training images.
        epochs: passes over them.
        folder: for checkpoints and TensorBoard event files; None: none are written.
        checkpoint_seconds: time between checkpoints; 0: after every step.
        log_steps: steps between points of the TensorBoard curves.
        description: of the progress bar.

    Returns:
        Mean metrics of every epoch.

    Raises:
        AutoslimError: when the loss is no longer finite (the last good checkpoint stays), for a checkpoint
            that is damaged or of another training, or if the folder can't be written.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint written.
    """
    run = _Training(step, batches, epochs, folder, log_steps)
    saved = time.monotonic()
    try:
        with (
            refusals_told(),
            peers_watched(step.strategy),
            deferred_interruption() as interruption,
            progress(description, run.total, run.done) as advance,
        ):
            for images, labels in run.remaining():
                run.take(images, labels)
                advance(1, **run.latest())
                due = time.monotonic() - saved >= checkpoint_seconds
                if due or interruption.requested or run.done == run.total:
                    run.save()
                    saved = time.monotonic()
                if interruption.requested:
                    raise KeyboardInterrupt
    finally:
        run.close()
    run.check_complete()
    return run.history


class _Training:
    """The progress of one training."""

    def __init__(
        self, step: Step, batches: BatchSource, epochs: int, folder: Path | str | None, log_steps: int
    ) -> None:
        self.step, self.batches, self.epochs = step, batches, epochs
        self.per_epoch = batches.steps_per_epoch
        self.total = epochs * self.per_epoch
        self.done = 0
        self.history: History = []
        self._sums: dict[str, float] = {}  # metrics summed over the steps of this epoch
        self._pending: list[dict[str, Any]] = []  # metrics of steps that were not looked at yet
        self._last: dict[str, float] = {}  # metrics of the last step that was
        self._log_steps = log_steps
        self._checkpoints = None
        self._writer = None
        if folder is not None:
            writes = is_chief(step.strategy)
            self._checkpoints = Checkpoints(
                Path(folder) / "checkpoints", step.model, step.optimizer, writes=writes
            )
            self._resume(self._checkpoints.restore())
            if self.done < self.total and writes:
                self._writer = tf.summary.create_file_writer(str(folder))

    def _resume(self, progress: dict[str, Any] | None) -> None:
        """Take up an earlier progress, if it is this training's."""
        if not progress:
            return
        here = self._identity()
        for name, value in here.items():
            if progress.get(name, value) != value:
                raise AutoslimError(self._other(f"{progress[name]} {name.replace('_', ' ')}", str(value)))
        self.done, self.history, self._sums = progress["step"], progress["history"], progress["sums"]
        if self.done > self.total:
            raise AutoslimError(self._other(f"{self.done} steps", f"{self.total} in all"))

    def _identity(self) -> dict[str, Any]:
        """What stays the same from call to call."""
        return {"arms": list(self.step.arms), "steps_per_epoch": self.per_epoch}

    def _other(self, there: str, here: str) -> str:
        assert self._checkpoints is not None
        return (
            f"The checkpoints in {self._checkpoints.folder} are of another training: it had {there}, this "
            f"one has {here}. Give this training another folder, or remove that one."
        )

    def remaining(self) -> Iterator[tuple[Any, Any]]:
        """The batches from here to the end."""
        if self.done >= self.total:
            return
        step = self.step
        yield from batches_for(
            self.batches,
            self.epochs,
            self.done,
            step.model,
            step.strategy,
            step.computing.accumulate,
        )

    def take(self, images: Any, labels: Any) -> None:
        """One step."""
        self._pending.append(self.step(images, labels, self.done))
        self.done += 1
        epoch_ends = self.done % self.per_epoch == 0
        if epoch_ends or self.done % self._log_steps == 0:
            self._look()
        if epoch_ends:
            means = {name: value / self.per_epoch for name, value in self._sums.items()}
            self.history.append({"epoch": self.done // self.per_epoch, **means})
            self._sums = {}

    def latest(self) -> dict[str, Any]:
        """Loss and top-1 of the first arm in the last step that was looked at, and the epoch."""
        epoch = f"{min(self.done // self.per_epoch + 1, self.epochs)}/{self.epochs}"
        return {
            "epoch": epoch,
            **{name.rpartition("/")[2]: self._last[name] for name in list(self._last)[:2]},
        }

    def save(self) -> None:
        """Write a checkpoint, once it is sure that the loss is finite."""
        self._look()
        if self._checkpoints:
            self._checkpoints.save(
                {
                    **self._identity(),
                    "step": self.done,
                    "history": self.history,
                    "sums": self._sums,
                }
            )

    def close(self) -> None:
        """Close the event file."""
        if self._writer:
            self._writer.close()

    def check_complete(self) -> None:
        """Refuse batches that ended too soon."""
        if self.done < self.total:
            raise AutoslimError(
                f"The batches ended after step {self.done} of {self.total}: steps_per_epoch={self.per_epoch} "
                "promised more. Give batches whose number is known."
            )

    def _look(self) -> None:
        """Bring the pending metrics to the host: check, sum and log them."""
        first = self.done - len(self._pending) + 1
        for number, metrics in enumerate(self._pending, first):
            values = {name: float(value) for name, value in metrics.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise AutoslimError(self._diverged(name, number))
                self._sums[name] = self._sums.get(name, 0.0) + value
            self._last = values
        if self._pending and self._writer:
            self._log(self._last)
        self._pending = []

    def _diverged(self, name: str, number: int) -> str:
        kept = self._checkpoints.kept() if self._checkpoints else ""
        return (
            f"{name} became NaN or infinite at step {number} of {self.total}. {kept}Lower "
            "optimizer.learning_rate, or set optimizer.clipnorm."
        )

    def _log(self, values: dict[str, float]) -> None:
        assert self._writer is not None
        with self._writer.as_default(step=self.done):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            tf.summary.scalar("learning_rate", np.float32(learning_rate(self.step.optimizer)))
        self._writer.flush()
