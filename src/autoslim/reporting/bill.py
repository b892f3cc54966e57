"""The bill of a run: arithmetic and time of its stages, in units of one baseline training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoslim.reporting import units

UNIT = (
    "One unit is the arithmetic of one baseline training: the full network's multiply-accumulates, three "
    "times (forward and backward), for every training image of every epoch. Calibration and evaluation are "
    "not counted."
)


@dataclass(frozen=True)
class Bill:
    """What the stages of a run cost, in units of one baseline training.

    >>> costs = {"baseline": 1.0, "supernet": 0.3, "search": 0.1, "retrain 0.5": 0.25}
    >>> bill = Bill(costs, ("retrain 0.5",))
    >>> bill.networks()
    {'retrain 0.5': ['supernet', 'search', 'retrain 0.5']}
    >>> round(bill.total(bill.networks()["retrain 0.5"]), 3)
    0.65
    """

    stages: Mapping[str, float]  # label of a piece of work, such as "supernet" or "retrain 0.5" -> its cost
    slim: tuple[str, ...] = ()  # labels of those that trained a network which a method found
    joint: bool = False  # whether the networks were retrained as one, so that none has a cost of its own
    seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # label -> wall-clock; unknown ones are left out
    unit_seconds: float | None = None  # wall-clock of one baseline training; None: it was not run
    hardware: tuple[str, ...] = ()  # on which the times were taken, each once
    finding: tuple[str, ...] = ("pretrain", "supernet", "search")  # stages that slim networks come from

    def networks(self) -> dict[str, list[str]]:
        """For each slim network the stages that found and trained it; joint ones stand together."""
        finding = [label for label in self.finding if label in self.stages]
        trained = [label for label in self.stages if label in self.slim]
        if self.joint and trained:
            return {trained[0].partition(" ")[0]: finding + trained}
        return {label: [*finding, label] for label in trained}

    def total(self, labels: list[str]) -> float:
        """What these stages cost together."""
        return sum(self.stages[label] for label in labels)

    def time(self, labels: list[str]) -> str:
        """What these stages took together, as "1:30, 0.45 of the baseline's"; "-" where it is unknown.

        Without the baseline's time there is nothing to compare with: "1:30".

        >>> bill = Bill({"supernet": 0.3, "search": 0.1}, (), False, {"supernet": 80, "search": 10}, 200)
        >>> bill.time(["supernet", "search"])
        "1:30, 0.450 of the baseline's"
        """
        if any(label not in self.seconds for label in labels):
            return "-"
        spent = sum(self.seconds[label] for label in labels)
        share = f", {spent / self.unit_seconds:.3f} of the baseline's" if self.unit_seconds else ""
        return f"{units.duration(spent)}{share}"

    def about_time(self) -> str:
        """What the times hold, and on what they were taken."""
        text = "Time: wall-clock of the whole stage, evaluation and interrupted attempts included"
        if self.hardware:
            text += f", on {' and on '.join(self.hardware)}"
        text += "; whether the machine was busy with other work is not known."
        if len(self.hardware) > 1:
            text += " Times on different hardware can't be compared."
        return text

    def lines(self) -> list[str]:
        """A line for each slim network: what finding and training it cost, in arithmetic and in time.

        >>> Bill({"supernet": 0.4, "retrain 0.5": 0.25}, ("retrain 0.5",)).lines()
        ['bill, retrain 0.5: 0.650 baseline trainings (supernet 0.400 + retrain 0.5 0.250); time -']
        """
        lines = []
        for name, labels in self.networks().items():
            parts = " + ".join(f"{label} {self.stages[label]:.3f}" for label in labels)
            spent = f"{self.total(labels):.3f} baseline trainings ({parts})"
            lines.append(f"bill, {name}: {spent}; time {self.time(labels)}")
        return lines
