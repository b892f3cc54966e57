"""The training loop shared by baseline, supernet and retraining. They differ in their step only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from autoslim.datasets import BatchSource
from autoslim.errors import AutoslimError
from autoslim.interruption import deferred_interruption
from autoslim.training.averaging import averaged, use_averages
from autoslim.training.checkpoint import Checkpoints
from autoslim.training.compiling import Fused, choose_jit, failures_explained
from autoslim.training.curves import Curves, Stopwatch
from autoslim.training.distribution import is_chief, peers_watched, wait_for_all
from autoslim.training.feed import batches_for, refusals_explained
from autoslim.training.observers import observers_for
from autoslim.training.precision import warn_where_slow
from autoslim.training.progress import History, Progress
from autoslim.training.steps import Step

log = logging.getLogger(__name__)

CURVE_POINTS = 10  # evaluations in a training, unless train.evaluate_epochs says it

Evaluate = Callable[[], dict[str, float]]
Bar = Callable[[str, int, int], AbstractContextManager[Callable[..., None]]]


@contextmanager
def no_progress(description: str, total: int, done: int) -> Iterator[Callable[..., None]]:
    """Show nothing."""
    yield lambda *steps, **info: None


def train(
    step: Step,
    batches: BatchSource,
    epochs: int,
    *,
    folder: Path | str | None = None,
    evaluate: Evaluate | None = None,
    progress: Bar = no_progress,
    description: str = "training",
) -> History:
    """Train for `epochs` passes over `batches`, from where an earlier call with the same folder stopped.

    Step k of epoch e is a function of the batches' seed, e and k alone, and a checkpoint holds all else, so a
    training that was interrupted ends with the same bits as one that was not. At the end the network has the
    moving average of its weights, if the optimizer keeps one.

    With several workers each calls this; the first one writes, into a folder that all can read.

    Args:
        step: an `ArmsStep` or another `Step`; its options say how steps are saved and logged.
        batches: of training images.
        epochs: passes over them.
        folder: for checkpoints and TensorBoard event files; None: none are written.
        evaluate: metrics to log every `evaluate_epochs` epochs; decides nothing.
        progress: (description, steps in all, steps done) -> a context that yields `advance(steps, **info)`,
            such as `reporting.terminal.progress`.
        description: of the training, for the progress, the log and the name of TensorBoard's run in `folder`.

    Returns:
        Mean metrics of every epoch.

    Raises:
        AutoslimError: when the loss is no longer finite (the last good checkpoint stays), for a checkpoint
            that is damaged or of another training, if the folder can't be written, or if another worker dies.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint written.
    """
    warn_where_slow(step.options.precision)
    place = None if folder is None else Path(folder)
    run = _Training(step, batches, epochs, place, evaluate, description)
    done = run.progress
    try:
        with (
            refusals_explained(),
            failures_explained(step),
            peers_watched(step.strategy),
            deferred_interruption() as interruption,
            progress(description, done.total, done.done) as advance,
        ):
            for steps in run.calls():
                advance(steps, **done.shown())
                run.save_if_due(now=interruption.requested)
                if interruption.requested:
                    raise KeyboardInterrupt
    finally:
        run.close()
    run.finish(description)
    return done.history


class _Training:
    """One training: its steps, and what is kept and shown of them."""

    def __init__(
        self,
        step: Step,
        batches: BatchSource,
        epochs: int,
        folder: Path | None,
        evaluate: Evaluate | None,
        description: str,
    ) -> None:
        self.step, self.batches, self.options = step, batches, step.options
        self.progress = Progress(batches.steps_per_epoch, epochs)
        self._evaluate = evaluate
        self._jit: bool | None = None
        self._pending: list[dict[str, Any]] = []  # metrics of steps that were not looked at yet
        self._checkpoints: Checkpoints | None = None
        model, writes = step.model, is_chief(step.strategy)
        if folder is not None:
            self._checkpoints = Checkpoints(folder / "checkpoints", model, step.optimizer, writes=writes)
            self._resume(self._checkpoints.restore())
        wait_for_all(step.strategy)  # before anyone writes what another one may still be reading
        shown = folder if writes and not self.progress.over else None
        self._curves = Curves(shown and shown / description, self.progress.done)
        self._observers = observers_for(step, shown, description, self.progress.done)
        self._clock = Stopwatch(batches.batch_size if not self.progress.over else 0)
        self._saved_at = time.monotonic()

    # -- resuming ------------------------------------------------------------------------------------

    def _resume(self, state: dict[str, Any] | None) -> None:
        """Take up an earlier progress, if it is this training's."""
        if not state:
            return
        for name, value in self._identity().items():
            if state.get(name, value) != value:
                raise AutoslimError(self._other(f"{state[name]} {name.replace('_', ' ')}", str(value)))
        self.progress.restore(state)
        self._jit = state.get("jit")
        before = state.get("replicas", self._replicas)
        if before != self._replicas and not self.options.sync_batch_norm:
            log.warning(
                "This training began on %d replicas and continues on %d: each replica's batch statistics now "
                "cover another part of the batch (with train.sync_batch_norm=true they cover all of it).",
                before,
                self._replicas,
            )
        if self.progress.done > self.progress.total:
            raise AutoslimError(self._other(f"{self.progress.done} steps", f"{self.progress.total} in all"))

    @property
    def _replicas(self) -> int:
        return int(self.step.strategy.num_replicas_in_sync)

    def _identity(self) -> dict[str, Any]:
        """What stays the same from call to call."""
        return {"arms": list(self.step.arms), "steps_per_epoch": self.progress.per_epoch}

    def _other(self, there: str, here: str) -> str:
        assert self._checkpoints is not None
        return (
            f"The checkpoints in {self._checkpoints.folder} are of another training: it had {there}, this "
            f"one has {here}. Give this training another folder, or remove that one."
        )

    # -- steps ---------------------------------------------------------------------------------------

    def calls(self) -> Iterator[int]:
        """Take all steps that are left; yields after every call with the number of steps that it took."""
        if self.progress.over:
            return
        self._jit = choose_jit(self.step, lambda: next(iter(self._remaining())), self._jit)
        several = self.options.steps_per_execution > 1 and getattr(self.step, "fusable", False)
        fused = Fused(self.step) if several else None
        iterator = iter(self._remaining())
        while not self.progress.over:
            steps = self._steps_at_once() if fused else 1
            try:
                metrics = fused(iterator, steps) if fused else [self._one(iterator)]
            except (StopIteration, tf.errors.OutOfRangeError):
                break
            self._clock.took(steps)
            self._pending += metrics
            self._look_if_due()
            yield steps

    @property
    def _at(self) -> int:
        """Steps that were taken, looked at or not."""
        return self.progress.done + len(self._pending)

    def _remaining(self) -> Any:
        """The batches from here to the end."""
        return batches_for(
            self.batches,
            self.progress.epochs,
            self.progress.done,
            getattr(self.step, "objective", None),
            self.step.strategy,
            self.options.accumulate,
        )

    def _one(self, iterator: Any) -> dict[str, Any]:
        with self._clock.waiting():
            images, labels = next(iterator)
        return self.step(images, labels, self._at)

    def _steps_at_once(self) -> int:
        """Steps until something is to be done between two of them, at most as many as asked for."""
        ends = [n - self._at % n for n in (self.progress.per_epoch, self.options.log_steps)]
        return min(self.options.steps_per_execution, *ends)

    # -- between steps -------------------------------------------------------------------------------

    def _look_if_due(self) -> None:
        if self._at % self.progress.per_epoch == 0 or self._at % self.options.log_steps == 0:
            self._look()

    def _look(self) -> None:
        """Bring the pending metrics to the host: check, sum and log them."""
        pending, self._pending = self._pending, []
        ended = False
        for metrics in pending:
            try:
                ended = self.progress.add({name: float(value) for name, value in metrics.items()})
            except ValueError as error:
                raise AutoslimError(self._diverged(str(error))) from None
        if pending:
            values = {**self.progress.last, **self._clock.lap()}
            self._curves.write(self.progress.done, values, self.step.optimizer)
            self._observers.write(self.progress.done, values)
        if ended:
            with self._clock.paused():
                self._end_epoch()

    def _end_epoch(self) -> None:
        self._evaluate_if_due()
        self._observers.epoch_ended(self.progress.epoch, self.progress.history[-1])

    def _evaluate_if_due(self) -> None:
        epoch, every = self.progress.epoch, self.options.evaluate_epochs
        every = self.progress.epochs // CURVE_POINTS if every is None else every
        if self._evaluate is None or not every or epoch % every:
            return
        with averaged(self.step.model, self.step.optimizer):
            found = self._evaluate()
        self.progress.history[-1] |= found
        self._curves.write(self.progress.done, found)
        self._observers.write(self.progress.done, found)
        log.info("epoch %d: %s", epoch, ", ".join(f"{name} {value:.4g}" for name, value in found.items()))

    def _diverged(self, name: str) -> str:
        kept = self._checkpoints.kept() if self._checkpoints else ""
        return (
            f"{name} became NaN or infinite at step {self.progress.done} of {self.progress.total}. {kept}"
            "Lower optimizer.learning_rate, or set optimizer.clipnorm."
        )

    def save_if_due(self, now: bool) -> None:
        """Write a checkpoint when it is time for one, at the end, or now."""
        due = time.monotonic() - self._saved_at >= self.options.checkpoint_seconds
        if not (due or now or self.progress.over):
            return
        self._look()  # a loss that is not finite is found before it is saved
        if self._checkpoints:
            with self._clock.paused():
                computed = {"jit": self._jit, "replicas": self._replicas}
                self._checkpoints.save({**self._identity(), **self.progress.state(), **computed})
        self._saved_at = time.monotonic()

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the event files."""
        self._curves.close()
        self._observers.close()

    def finish(self, description: str) -> None:
        """Say how it went, and leave the network with the weights that it is to be used with.

        Raises:
            AutoslimError: if the batches ended too soon.
        """
        progress = self.progress
        if not progress.over:
            raise AutoslimError(
                f"The batches ended after step {self._at} of {progress.total}: "
                f"steps_per_epoch={progress.per_epoch} promised more. Give batches whose number is known."
            )
        speed = self._clock.summary()
        if speed:
            log.info("%s: %s", description, speed)
        use_averages(self.step.model, self.step.optimizer)
