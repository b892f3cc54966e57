"""One trained network of a run, as the report, the figures and the sweep's summary read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from autoslim.kinds import KINDS, place_of

if TYPE_CHECKING:
    from autoslim.graph.cost import Cost


@dataclass(frozen=True)
class NetworkResult:
    """A trained network: what it costs, and how good it is on the test images."""

    kind: str  # a key of `kinds.KINDS`
    target: float | None  # share of the full network's resource that was asked for; None: the full network
    top1: float  # share of test images whose answer is correct
    loss: float  # mean cross-entropy on the test images
    flops: int  # multiply-accumulates for one image
    params: int
    memory: int  # bytes: peak of live activations for one image
    channels: dict[str, int]  # group name -> width
    folder: str  # of the stage that trained it
    files: dict[str, str] = field(default_factory=dict)  # "model", "channels", ... -> path
    latency: float | None = None  # predicted for one image, where latency is limited
    near_chance: bool = False  # whether its top-1 may be near what guessing reaches

    @property
    def label(self) -> str:
        """Its name for people: "given", "baseline", "AutoSlim 0.5", "uniform 0.5"."""
        name = KINDS[self.kind].label
        return name if self.target is None else f"{name} {self.target:g}"

    def cost(self, resource: str) -> float:
        """Its "flops", "params", "memory" or (predicted) "latency"."""
        return {
            "flops": self.flops,
            "params": self.params,
            "memory": self.memory,
            "latency": self.latency if self.latency is not None else float("nan"),
        }[resource]

    def share(self, resource: str, full: Cost) -> float:
        """Its cost as a share of the full network's."""
        return float(self.cost(resource) / full.of(resource))

    def row(self, full: Cost) -> dict[str, Any]:
        """The figures that a sweep gathers over seeds, with the shares of the full network."""
        return {
            "network": self.kind,
            "target": self.target,
            "top1": self.top1,
            "loss": self.loss,
            "flops": self.flops,
            "params": self.params,
            "memory": self.memory,
            "folder": self.folder,
            **{f"{name}_share": self.share(name, full) for name in ("flops", "params", "memory")},
        }


class Ordered(Protocol):
    """What has a place in tables: a `NetworkResult` and its kin."""

    @property
    def kind(self) -> str: ...

    @property
    def target(self) -> float | None: ...


N = TypeVar("N", bound=Ordered)


def in_order(networks: Sequence[N]) -> list[N]:
    """The full networks first, then by target from large to small, and for one target by kind."""
    return sorted(networks, key=lambda n: (-(n.target if n.target is not None else 2.0), place_of(n.kind)))


def reference(results: Sequence[NetworkResult]) -> NetworkResult | None:
    """The network to compare with: the given one, else the baseline; None: there is neither."""
    full = [result for result in results if KINDS[result.kind].full]
    return min(full, key=lambda result: place_of(result.kind), default=None)
