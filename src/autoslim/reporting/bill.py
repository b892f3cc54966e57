"""The bill of a run: the arithmetic of its stages in units of one baseline training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

UNIT = (
    "One unit is the arithmetic of one baseline training: the full network's multiply-accumulates, three "
    "times (forward and backward), for every training image of every epoch. Calibration and evaluation are "
    "not counted."
)


@dataclass(frozen=True)
class Bill:
    """What the stages of a run cost, in units of one baseline training.

    >>> bill = Bill({"baseline": 1.0, "supernet": 0.3, "search": 0.1, "retrain 0.5": 0.25})
    >>> bill.networks()
    {'retrain 0.5': ['supernet', 'search', 'retrain 0.5']}
    >>> round(bill.total(bill.networks()["retrain 0.5"]), 3)
    0.65
    """

    stages: Mapping[str, float]  # label of the stage, such as "supernet" or "retrain 0.5" -> its cost
    joint: bool = False  # whether the networks were retrained as one, so that none has a cost of its own

    def networks(self) -> dict[str, list[str]]:
        """For each slim network the stages that found and trained it; joint ones stand together."""
        finding = [label for label in ("supernet", "search") if label in self.stages]
        trained = [label for label in self.stages if label.partition(" ")[0] == "retrain"]
        if self.joint and trained:
            return {"retrain": finding + trained}
        return {label: [*finding, label] for label in trained}

    def total(self, labels: list[str]) -> float:
        """What these stages cost together."""
        return sum(self.stages[label] for label in labels)

    def lines(self) -> list[str]:
        """A line for each slim network: what finding and training it cost, beside one baseline training.

        >>> Bill({"supernet": 0.3, "search": 0.1, "retrain 0.5": 0.25}).lines()
        ['bill, retrain 0.5: 0.650 baseline trainings (supernet 0.300 + search 0.100 + retrain 0.5 0.250)']
        """
        lines = []
        for name, labels in self.networks().items():
            parts = " + ".join(f"{label} {self.stages[label]:.3f}" for label in labels)
            lines.append(f"bill, {name}: {self.total(labels):.3f} baseline trainings ({parts})")
        return lines
