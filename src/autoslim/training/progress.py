"""How far a training is: its steps, and the mean metrics of its epochs."""

from __future__ import annotations

import math
from typing import Any

History = list[dict[str, float]]  # one dict of mean metrics per epoch


class Progress:
    """Counts steps and averages their metrics epoch by epoch; JSON-able.

    Args:
        steps_per_epoch: of the training.
        epochs: in all.
    """

    def __init__(self, steps_per_epoch: int, epochs: int) -> None:
        self.per_epoch, self.epochs = steps_per_epoch, epochs
        self.total = epochs * steps_per_epoch
        self.done = 0  # steps
        self.history: History = []
        self.last: dict[str, float] = {}  # metrics of the last step
        self._sums: dict[str, float] = {}  # metrics summed over the steps of this epoch

    @property
    def epoch(self) -> int:
        """Whole epochs that are done."""
        return self.done // self.per_epoch

    @property
    def over(self) -> bool:
        """Whether the training is at its end."""
        return self.done >= self.total

    def add(self, metrics: dict[str, float]) -> bool:
        """Count one step; whether it was the last one of an epoch.

        Raises:
            ValueError: with the name of a metric that is not finite.
        """
        self.done += 1
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(name)
            self._sums[name] = self._sums.get(name, 0.0) + value
        self.last = metrics
        if self.done % self.per_epoch:
            return False
        means = {name: value / self.per_epoch for name, value in self._sums.items()}
        self.history.append({"epoch": self.epoch, **means})
        self._sums = {}
        return True

    def shown(self) -> dict[str, Any]:
        """The epoch, and loss and top-1 of the first network in the last step, for a progress bar."""
        epoch = f"{min(self.epoch + 1, self.epochs)}/{self.epochs}"
        return {"epoch": epoch, **{n.rpartition("/")[2]: self.last[n] for n in list(self.last)[:2]}}

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {"step": self.done, "history": self.history, "sums": self._sums}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up an earlier progress."""
        self.done, self.history, self._sums = state["step"], state["history"], state["sums"]
