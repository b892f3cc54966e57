"""The training loop shared by baseline, supernet and retraining. They differ in their step only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from autoslim.datasets import BatchSource
from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import progress as progress_bar
from autoslim.training.averaging import BestWeights, averaged, use_averages
from autoslim.training.checkpoint import Checkpoints
from autoslim.training.compiling import Fused, choose_jit, failures_told
from autoslim.training.curves import Curves, Profile, Stopwatch
from autoslim.training.distribution import is_chief, peers_watched, wait_for_all
from autoslim.training.feed import batches_for, refusals_told
from autoslim.training.interruption import deferred_interruption
from autoslim.training.progress import History, Progress
from autoslim.training.running import USUALLY, Running
from autoslim.training.steps import Step

log = logging.getLogger(__name__)

Evaluate = Callable[[], dict[str, float]]


def train(
    step: Step,
    batches: BatchSource,
    epochs: int,
    *,
    folder: Path | str | None = None,
    running: Running = USUALLY,
    evaluate: Evaluate | None = None,
    description: str = "training",
) -> History:
    """Train for `epochs` passes over `batches`, from where an earlier call with the same folder stopped.

    Step k of epoch e is a function of the batches' seed, e and k alone, and a checkpoint holds all else, so a
    training that was interrupted ends with the same bits as one that was not. At the end the network has the
    moving average of its weights, if the optimizer keeps one, or the weights of the best epoch, if asked to.

    With several workers each calls this; the first one writes, into a folder that all can read.

    Args:
        step: a `PlainStep`, a `SandwichStep` or another `Step`.
        batches: of training images.
        epochs: passes over them.
        folder: for checkpoints and TensorBoard event files; None: none are written.
        running: what is saved and logged, and when to end early.
        evaluate: metrics to log every `running.evaluate_epochs` epochs; decides nothing.
        description: of the progress bar.

    Returns:
        Mean metrics of every epoch.

    Raises:
        AutoslimError: when the loss is no longer finite (the last good checkpoint stays), for a checkpoint
            that is damaged or of another training, if the folder can't be written, or if another worker dies.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint written.
    """
    run = _Training(step, batches, epochs, Path(folder) if folder is not None else None, running, evaluate)
    progress = run.progress
    try:
        with (
            refusals_told(),
            failures_told(step),
            peers_watched(step.strategy),
            deferred_interruption() as interruption,
            progress_bar(description, progress.total, progress.done) as advance,
        ):
            for steps in run.calls():
                advance(steps, **progress.shown())
                run.save_if_due(now=interruption.requested)
                if interruption.requested:
                    raise KeyboardInterrupt
    finally:
        run.close()
    run.finish(description)
    return progress.history


class _Training:
    """One training: its steps, and what is kept and shown of them."""

    def __init__(
        self,
        step: Step,
        batches: BatchSource,
        epochs: int,
        folder: Path | None,
        running: Running,
        evaluate: Evaluate | None,
    ) -> None:
        self.step, self.batches, self.running = step, batches, running
        self.progress = Progress(batches.steps_per_epoch, epochs, running.patience)
        self._evaluate = evaluate
        self._jit: bool | None = None
        self._pending: list[dict[str, Any]] = []  # metrics of steps that were not looked at yet
        self._checkpoints: Checkpoints | None = None
        model, writes = step.model, is_chief(step.strategy)
        if folder is not None:
            self._checkpoints = Checkpoints(
                folder / "checkpoints", model, step.optimizer, keep=running.keep_checkpoints, writes=writes
            )
            self._resume(self._checkpoints.restore())
        wait_for_all(step.strategy)  # before anyone writes what another one may still be reading
        self._best: BestWeights | None = None
        if running.keep_best:
            self._best = BestWeights(folder / "best" if folder else None, model, step.strategy)
        written = folder if writes and not self.progress.over else None
        self._curves = Curves(written)
        self._profile = Profile(written, running.profile, self.progress.total)
        self._clock = Stopwatch(batches.batch_size if not self.progress.over else 0)
        self._saved_at, self._saved_step = time.monotonic(), self.progress.done

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
        if self.progress.done > self.progress.total:
            raise AutoslimError(self._other(f"{self.progress.done} steps", f"{self.progress.total} in all"))

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
        several = self.running.steps_per_call > 1 and self.step.computing.accumulate == 1
        fused = Fused(self.step) if several and hasattr(self.step, "compute") else None
        iterator = iter(self._remaining())
        while not self.progress.over:
            steps = self._steps_at_once() if fused else 1
            with self._profile.around(self._at, steps):
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
            self.step.model,
            self.step.strategy,
            self.step.computing.accumulate,
        )

    def _one(self, iterator: Any) -> dict[str, Any]:
        with self._clock.waiting():
            images, labels = next(iterator)
        return self.step(images, labels, self._at)

    def _steps_at_once(self) -> int:
        """Steps until something is to be done between two of them, at most as many as asked for."""
        at, running = self._at, self.running
        every = (self.progress.per_epoch, running.log_steps, running.checkpoint_steps)
        ends = [n - at % n for n in every if n]
        profile = self._profile.until(at)
        return min([running.steps_per_call, *ends, *([profile] if profile else [])])

    # -- between steps -------------------------------------------------------------------------------

    def _look_if_due(self) -> None:
        if self._at % self.progress.per_epoch == 0 or self._at % self.running.log_steps == 0:
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
        if ended:
            with self._clock.paused():
                self._end_epoch()

    def _end_epoch(self) -> None:
        epoch, every = self.progress.epoch, self.running.evaluate_epochs
        evaluates = self._evaluate is not None and every is not None and epoch % every == 0
        saves = self._best is not None and self.progress.improved
        if not (evaluates or saves):
            return
        with averaged(self.step.model, self.step.optimizer):
            if evaluates:
                assert self._evaluate is not None
                found = self._evaluate()
                self.progress.history[-1] |= found
                self._curves.write(self.progress.done, found)
                text = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                log.info("epoch %d: %s", epoch, text)
            if saves:
                assert self._best is not None
                self._best.save(epoch)

    def _diverged(self, name: str) -> str:
        kept = self._checkpoints.kept() if self._checkpoints else ""
        return (
            f"{name} became NaN or infinite at step {self.progress.done} of {self.progress.total}. {kept}"
            "Lower optimizer.learning_rate, or set optimizer.clipnorm."
        )

    def save_if_due(self, now: bool) -> None:
        """Write a checkpoint when it is time for one, at the end, or now."""
        every = self.running.checkpoint_steps
        due = time.monotonic() - self._saved_at >= self.running.checkpoint_seconds
        due = due or (every is not None and self._at // every > self._saved_step // every)
        if not (due or now or self.progress.over):
            return
        self._look()  # a loss that is not finite is found before it is saved
        if self._checkpoints:
            with self._clock.paused():
                self._checkpoints.save({**self._identity(), **self.progress.state(), "jit": self._jit})
        self._saved_at, self._saved_step = time.monotonic(), self.progress.done

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the event files."""
        self._profile.close()
        self._curves.close()

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
        if progress.done < progress.total:
            log.info(
                "%s: ended after epoch %d of %d, %d epochs after the lowest loss.",
                description,
                progress.epoch,
                progress.epochs,
                progress.epoch - progress.best["epoch"],
            )
        if self._best is not None:
            self._best.restore()
        else:
            use_averages(self.step.model, self.step.optimizer)
