"""One trained network of a run, as the report, the figures and the sweep's summary read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from autoslim.kinds import KINDS, place_of
from autoslim.metrics import TOP1, Metric
from autoslim.resources import Cost


@dataclass(frozen=True)
class NetworkResult:
    """A trained network: what it costs, and how good it is on the test images."""

    kind: str  # a key of `kinds.KINDS`
    target: float | None  # share of the full network's resource that was asked for; None: the full network
    metric: float  # of the task, mean over the test images; of classification top-1
    loss: float  # mean over the test images
    cost: Cost  # for one image; latency predicted, where it is limited
    channels: dict[str, int]  # group name -> width
    folder: str  # of the stage that trained it
    files: dict[str, str] = field(default_factory=dict)  # "model", "channels", ... -> path
    near_chance: bool = False  # whether its metric may be near what guessing reaches
    measure: Metric = TOP1  # what the metric is
    error: float | None = None  # standard error of the metric over the test images; None: not known

    @property
    def label(self) -> str:
        """Its name for people: "given", "baseline", "AutoSlim 0.5", "uniform 0.5"."""
        name = KINDS[self.kind].label
        return name if self.target is None else f"{name} {self.target:g}"

    @property
    def reached(self) -> str:
        """Its metric for people: "97.22 %"."""
        return self.measure.text(self.metric)

    def gain(self, other: NetworkResult) -> float:
        """By how much its metric is better than another network's: positive if it is."""
        return self.measure.gain(self.metric, other.metric)

    def interval(self, images: int) -> tuple[float, float]:
        """The ends of the metric's 95 % interval for the choice of the test images.

        Wilson's where an answer is correct or not, else the mean and 1.96 standard errors to either side.
        """
        if self.measure.binary:
            from autoslim.reporting.statistics import interval  # here: log lines come before NumPy

            return interval(self.metric, images)
        half = 1.96 * (self.error or 0.0)
        return self.metric - half, self.metric + half

    def share(self, resource: str, full: Cost) -> float:
        """Its cost as a share of the full network's."""
        return float(self.cost.of(resource) / full.of(resource))

    def row(self, full: Cost) -> dict[str, Any]:
        """The figures that a sweep gathers over seeds, with the shares of the full network."""
        return {
            "network": self.kind,
            "target": self.target,
            "metric": self.metric,
            "measure": dataclasses.asdict(self.measure),
            "loss": self.loss,
            **self.cost.row(),
            "folder": self.folder,
            **{f"{name}_share": self.share(name, full) for name in self.cost if name in full},
        }


class Ordered(Protocol):
    """What has a place in tables: a `NetworkResult` and its kin."""

    @property
    def kind(self) -> str: ...

    @property
    def target(self) -> float | None: ...


def measure_of(results: Sequence[NetworkResult]) -> Metric:
    """What the metric of these networks is, one and the same for all of them."""
    return results[0].measure if results else TOP1


N = TypeVar("N", bound=Ordered)


def in_order(networks: Sequence[N]) -> list[N]:
    """The full networks first, then by target from large to small, and for one target by kind."""
    return sorted(networks, key=lambda n: (-(n.target if n.target is not None else 2.0), place_of(n.kind)))


def reference(results: Sequence[NetworkResult]) -> NetworkResult | None:
    """The network to compare with: the given one, else the baseline; None: there is neither."""
    full = [result for result in results if KINDS[result.kind].full]
    return min(full, key=lambda result: place_of(result.kind), default=None)
