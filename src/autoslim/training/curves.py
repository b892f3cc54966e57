"""What a training shows of itself: TensorBoard curves and its speed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.training.optimizers import learning_rate


class Stopwatch:
    """Time per step, and how much of it was spent waiting for images.

    The first call of a training, in which functions are traced, does not count.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._steps = self._all_steps = 0
        self._waited = self._all_waited = self._all_seconds = 0.0
        self._start: float | None = None
        self._sees_waiting = False  # not where steps take their images themselves, several in one call

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for the next batch."""
        self._sees_waiting = True
        start = time.monotonic()
        yield
        if self._start is not None:
            self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what does not belong to a step."""
        start = time.monotonic()
        yield
        if self._start is not None:
            self._start += time.monotonic() - start

    def took(self, steps: int) -> None:
        """Count calls of the step."""
        if self._start is None:
            self._start = time.monotonic()
        else:
            self._steps += steps

    def lap(self) -> dict[str, float]:
        """Speed since the last lap, for a step whose results are known; nothing before there is one."""
        if self._start is None or not self._steps:
            return {}
        now = time.monotonic()
        seconds, steps, waited = now - self._start, self._steps, self._waited
        self._all_seconds += seconds
        self._all_steps += steps
        self._all_waited += waited
        self._start, self._steps, self._waited = now, 0, 0.0
        return self._speed(seconds, steps, waited)

    def _speed(self, seconds: float, steps: int, waited: float) -> dict[str, float]:
        seconds = max(seconds, 1e-9)
        speed = {
            "speed/images_per_second": steps * self._batch_size / seconds,
            "speed/step_seconds": seconds / steps,
        }
        share = {"speed/share_of_time_waiting_for_images": waited / seconds}
        return speed | share if self._sees_waiting else speed

    def summary(self) -> str:
        """Speed over the whole training, in words; empty if nothing was measured."""
        if not self._all_steps:
            return ""
        images, seconds, *share = self._speed(self._all_seconds, self._all_steps, self._all_waited).values()
        text = f"{images:.0f} images/s, {1000 * seconds:.1f} ms a step"
        return text + "".join(f", {part:.0%} of it waiting for images" for part in share)


class Curves:
    """Event files for TensorBoard in one folder.

    Args:
        folder: of the files; None: none are written.
        step: that the training goes on from: what a killed process wrote of later ones is no longer shown.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        if folder is not None and step:
            _forget_from(folder, step + 1)
        self._writer = tf.summary.create_file_writer(str(folder)) if folder is not None else None

    def write(self, step: int, values: Mapping[str, float], optimizer: Any = None) -> None:
        """One point of each curve, and of the learning rate."""
        if self._writer is None:
            return
        with self._writer.as_default(step=step), tf.summary.record_if(True):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            if optimizer is not None:
                tf.summary.scalar("learning_rate", np.float32(learning_rate(optimizer)))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def _forget_from(folder: Path, step: int) -> None:
    """Tell TensorBoard to drop what was written before of this step and later ones.

    TensorBoard reads files in the order of their names: this one stands before those of the same second. The
    first start that it sees does not count as a restart, so there are two.
    """
    name = f"events.out.tfevents.{int(time.time()):010d}.+from-step-{step}"
    restart = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    with tf.io.TFRecordWriter(str(folder / name)) as file:
        file.write(
            tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()
        )
        for _ in range(2):
            event = tf.compat.v1.Event(wall_time=time.time(), step=step, session_log=restart)
            file.write(event.SerializeToString())
