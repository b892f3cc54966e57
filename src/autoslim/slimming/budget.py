"""A budget: a share of the full network's resource, and limits on others; met when all are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph, Cost

RESOURCES = ("flops", "params", "memory", "latency")
UNITS = {"flops": "multiply-accumulates", "params": "weights", "memory": "bytes", "latency": "ms"}


def check_targets(targets: Sequence[float], resource: str) -> None:
    """Refuse what is no shares of a resource to keep.

    Raises:
        AutoslimError: for none, or one outside (0, 1].
    """
    if not targets or not all(0 < target <= 1 for target in targets):
        raise AutoslimError(
            f"targets={tuple(targets)}: expected shares of the full network's {resource}, in (0, 1]."
        )


class Budget:
    """What networks of a channel graph may cost.

    Args:
        graph: whose widths are judged.
        resource: what targets are shares of: "flops", "params", "memory" or "latency".
        convention: how FLOPs and parameters are counted, as in `ChannelGraph.cost`.
        limits: {resource: largest amount}, in multiply-accumulates, weights, bytes, milliseconds.
        latency: widths int [..., G] -> milliseconds [...]; needed where latency is limited.
        allow_uncounted: limit FLOPs also where those of some layers could not be counted.

    Raises:
        AutoslimError: for unknown resources, limits that are not above 0, or latency without a measure.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        resource: str = "flops",
        convention: str = "macs",
        limits: Mapping[str, float] | None = None,
        latency: Callable[[Any], Any] | None = None,
        allow_uncounted: bool = False,
    ) -> None:
        self.graph, self.resource, self.convention = graph, resource, convention
        self.limits = dict(limits or {})
        self._latency = latency
        for name in (resource, *self.limits):
            if name not in RESOURCES:
                raise AutoslimError(f"resource {name!r} is unknown. There are: {', '.join(RESOURCES)}.")
        for name, amount in self.limits.items():
            if not amount > 0:
                raise AutoslimError(f"slim.limits.{name}={amount} is out of range: {UNITS[name]}, above 0.")
        if self.limits_latency and latency is None:
            raise AutoslimError(
                "Latency is limited but nothing measures it: give "
                "latency=autoslim.slimming.latency.LatencyTable(graph)."
            )
        if "flops" in (resource, *self.limits) and graph.uncounted and not allow_uncounted:
            layers = "; ".join(f"{name} ({why})" for name, why in graph.uncounted.items())
            raise AutoslimError(
                f"FLOPs are limited, but those of these layers could not be counted: {layers}. Limit another "
                "resource (slim.resource=params), or count them as 0: slim.allow_uncounted=true."
            )
        self.full: Cost = self.cost(graph.full)

    @property
    def limits_latency(self) -> bool:
        """Whether latency decides, alone or with others."""
        return "latency" in (self.resource, *self.limits)

    def cost(self, widths: Any) -> Cost:
        """Cost at widths int [..., G], with the predicted latency where there is a measure."""
        cost = self.graph.cost(widths, self.convention)
        if self._latency is None:
            return cost
        return dataclasses.replace(cost, latency=self._latency(widths))

    def share(self, cost: Cost) -> Any:
        """Share of the full network's resource: float, or float64 [...]."""
        return cost.of(self.resource) / self.full.of(self.resource)

    def within(self, widths: Any, target: float) -> Any:
        """Whether networks at widths [..., G] meet the target and all limits: bool, or bool [...]."""
        cost = self.cost(widths)
        met = np.asarray(self.share(cost) <= target)
        for name, amount in self.limits.items():
            met = met & (np.asarray(cost.of(name)) <= amount)
        return met if met.ndim else bool(met)

    def refuse_unreachable(self, smallest: np.ndarray, target: float) -> None:
        """Refuse a target or limit below what the network costs at its `smallest` widths int32 [G].

        Raises:
            AutoslimError: saying what is reachable.
        """
        if self.within(self.graph.full, target):  # measured times need not fall with the widths
            return
        cost = self.cost(smallest)
        least = self.share(cost)
        if least > target:
            raise AutoslimError(
                f"Cannot reach {self.resource} <= {target:g}: with every group at its smallest level the "
                f"network still costs {least:.3f} of the full one's {self.resource}. Lower slim.min_width or "
                f"slim.divisor, or raise slim.target to {np.ceil(least * 1000) / 1000:g} or more."
            )
        for name, amount in self.limits.items():
            if cost.of(name) > amount:
                raise AutoslimError(
                    f"Cannot reach slim.limits.{name}={amount:g}: with every group at its smallest level the "
                    f"network still has {cost.of(name):g} {UNITS[name]}. Lower slim.min_width or "
                    "slim.divisor, or raise the limit."
                )
