"""A budget: a share of the full network's resource, and limits on others; met when all are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.resources import RESOURCES, Cost
from autoslim.schema.slimming import BASE
from autoslim.slimming.trajectory import Trajectory


@runtime_checkable
class _Curved(Protocol):
    """A prediction that is a rising curve of a sum over layers: a `LatencyModel`."""

    def fitted(self, widths: Any) -> Any:
        """The sums of networks."""

    def fitted_at(self, latency: float) -> float:
        """The sum of which a latency is the prediction."""


class Budget:
    """What networks of a channel graph may cost.

    Args:
        graph: whose widths are judged.
        resource: what targets are shares of, a name of `resources.RESOURCES`.
        convention: how FLOPs and parameters are counted, as in `ChannelGraph.cost`.
        limits: {resource: largest amount}, in the resource's unit, latency in what it is measured in; or
            "base": what the network has that targets are shares of.
        latency: widths int [..., G] -> predicted latency [...] that falls with no width, such as a
            `LatencyModel` (`slimming.latency`); needed where latency is limited.
        allow_uncounted: limit FLOPs also where those of some layers could not be counted.
        reference: widths int32 [G] of the network that targets are shares of, where the graph is a wider
            one; None: the full network.

    Raises:
        AutoslimError: for unknown resources, limits that are not above 0, or latency without a measure.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        resource: str = "flops",
        convention: str = "macs",
        limits: Mapping[str, float | str] | None = None,
        latency: Callable[[Any], Any] | None = None,
        allow_uncounted: bool = False,
        reference: np.ndarray | None = None,
    ) -> None:
        self.graph, self.resource, self.convention = graph, resource, convention
        self.reference = graph.full if reference is None else graph.check(reference)
        self._latency = latency
        asked = dict(limits or {})
        for name in (resource, *asked):
            if name not in RESOURCES:
                raise AutoslimError(f"resource {name!r} is unknown. There are: {', '.join(RESOURCES)}.")
        if "latency" in (resource, *asked) and latency is None:
            raise AutoslimError(
                "Latency is limited but nothing measures it: give "
                "latency=autoslim.slimming.latency.LatencyModel(graph, levels, "
                "autoslim.exporting.NetworkClock())."
            )
        if "flops" in (resource, *asked) and graph.uncounted and not allow_uncounted:
            layers = "; ".join(f"{name} ({why})" for name, why in graph.uncounted.items())
            raise AutoslimError(
                f"FLOPs are limited, but those of these layers could not be counted: {layers}. Limit another "
                "resource (slim.resource=params), or count them as 0: slim.allow_uncounted=true."
            )
        self.full: Cost = self.cost(self.reference)
        self.limits = {name: self._amount(name, amount) for name, amount in asked.items()}

    def _amount(self, name: str, amount: float | str) -> float:
        """A limit as a number."""
        if amount == BASE:
            return float(self.full.of(name))
        if isinstance(amount, str) or not amount > 0:
            raise AutoslimError(
                f"slim.limits.{name}={amount} is out of range: {RESOURCES[name].unit}, above 0; or {BASE}."
            )
        return float(amount)

    def cost(self, widths: Any) -> Cost:
        """Cost at widths int [..., G], with the predicted latency where there is a measure."""
        cost = self.graph.cost(widths, self.convention)
        if self._latency is None:
            return cost
        latency = self._latency(widths)
        return Cost({**cost, "latency": latency if np.ndim(latency) else float(latency)}, cost.unknown)

    def share(self, cost: Cost) -> Any:
        """Share of the resource of the network that targets are shares of: float, or float64 [...]."""
        return cost.of(self.resource) / self.full.of(self.resource)

    def recounted(self, trajectory: Trajectory) -> Trajectory:
        """A path whose points have the latencies predicted now; what came after the way down is redone."""
        points = []
        for point in trajectory.points:
            cost = self.cost(np.array(point.widths, np.int32))
            points.append(dataclasses.replace(point, share=float(self.share(cost)), cost=cost))
        return dataclasses.replace(trajectory.without_moves(), points=tuple(points))

    def within(self, widths: Any, target: float) -> Any:
        """Whether networks at widths [..., G] meet the target and all limits: bool, or bool [...]."""
        met = np.asarray(self._count(self.resource, widths) / self.full.of(self.resource) <= target)
        for name, amount in self.limits.items():
            met = met & (self._count(name, widths) <= amount)
        return met if met.ndim else bool(met)

    def _count(self, name: str, widths: Any) -> np.ndarray:
        """What networks at widths [..., G] use of one resource; the others are not counted: [...]."""
        if name == "latency" and self._latency is not None:
            return np.asarray(self._latency(widths))
        return self.graph.amounts(name, widths, self.convention).max(-1)

    def bounds(self, target: float) -> dict[str, float]:
        """{resource: largest amount} of every budget: the target's, and the limits."""
        found = {self.resource: target * float(self.full.of(self.resource))}
        for name, amount in self.limits.items():
            found[name] = min(amount, found.get(name, amount))
        return found

    def summed(self, name: str) -> tuple[Callable[[np.ndarray], Any], Callable[[float], float]]:
        """What of a resource is a sum over layers: (widths [K, G] -> sums [K], amount -> the sum that it is).

        All are sums, but for a latency model: its prediction is a rising curve of one.
        """
        model: Any = self._latency
        if RESOURCES[name].measured and isinstance(model, _Curved):
            return model.fitted, model.fitted_at
        return lambda widths: self.cost(widths).of(name), lambda amount: amount

    def amounts(self, widths: Any, target: float) -> list[tuple[str, float, np.ndarray]]:
        """What networks at widths [..., G] use of every budget: (resource, bound, amounts float64 [..., M]).

        M is 1, and for a peak the number of amounts of which it is the largest.
        """
        cost, found = self.cost(widths), []
        for name, bound in self.bounds(target).items():
            if RESOURCES[name].peak:
                amounts = self.graph.amounts(name, widths, self.convention).astype(float)
            else:
                amounts = np.asarray(cost.of(name), float)[..., None]
            found.append((name, bound, amounts))
        return found

    def saved(self, now: np.ndarray, candidates: np.ndarray, target: float) -> np.ndarray:
        """How much nearer to a target and the limits each candidate is than the network it comes from.

        The sum over the violated budgets of what is saved there, each as a share of its bound and counted up
        to the excess; of a peak, the mean over the amounts that are above its bound. With a target alone
        nothing is cut off, so that the path down is the same for every target.

        Args:
            now: widths int32 [G].
            candidates: widths int32 [K, G], nowhere wider.
            target: share of the full network's resource to keep.

        Returns:
            float64 [K], 0 where a step saves nothing of a violated budget.
        """
        if not self.steered:
            amounts = np.asarray(self.cost(candidates).of(self.resource), float)
            full = float(self.full.of(self.resource))
            return np.maximum(0.0, (self.cost(now).of(self.resource) - amounts) / full)
        total = np.zeros(len(candidates))
        before, after = self.amounts(now, target), self.amounts(candidates, target)
        for (_, bound, one), (_, _, each) in zip(before, after, strict=True):
            over = one > bound
            if over.any():
                saved = np.minimum(one[over] - each[:, over], one[over] - bound)
                total += np.maximum(saved, 0.0).mean(-1) / bound
        return total

    def spent(self, now: np.ndarray, candidates: np.ndarray, target: float) -> np.ndarray:
        """How much of what is left of the budgets each candidate takes: float64 [K].

        The sum over the budgets of what is added as a share of what is left there: scarce ones count most.

        Args:
            now: widths int32 [G], within all budgets.
            candidates: widths int32 [K, G], nowhere narrower.
            target: share of the full network's resource to keep.
        """
        total = np.zeros(len(candidates))
        before, after = self.amounts(now, target), self.amounts(candidates, target)
        for (_, bound, one), (_, _, each) in zip(before, after, strict=True):
            left = bound - one.max(-1)
            total += np.maximum(each.max(-1) - one.max(-1), 0.0) / max(left, 1e-12 * bound)
        return total

    @property
    def steered(self) -> bool:
        """Whether the way down depends on the target: with limits, and for a peak."""
        return bool(self.limits) or RESOURCES[self.resource].peak

    def refuse_unreachable(self, smallest: np.ndarray, target: float) -> None:
        """Refuse a target or limit below what the network costs at its `smallest` widths int32 [G].

        Raises:
            AutoslimError: saying what is reachable.
        """
        cost = self.cost(smallest)
        least = self.share(cost)
        lower = (self.graph.uniform(0.0) < smallest).any()
        way_out = "Lower slim.min_width or slim.divisor, or raise" if lower else "Raise"
        found = "was measured at" if RESOURCES[self.resource].measured else "still costs"
        none_saved = np.ceil(least * 1000) >= 1000  # not even a target of 1 would be met
        if least > target and none_saved and self.resource != "flops":
            raise AutoslimError(
                f"Cannot reach {self.resource} <= {target:g}: with every group at its smallest level the "
                f"network {found} {least:.3f} of the full one's {self.resource}, so narrower networks save "
                "none. Limit another resource: slim.resource=flops."
            )
        if least > target:
            raise AutoslimError(
                f"Cannot reach {self.resource} <= {target:g}: with every group at its smallest level the "
                f"network {found} {least:.3f} of the full one's {self.resource}. "
                f"{way_out} slim.target to {np.ceil(least * 1000) / 1000:g} or more."
            )
        for name, amount in self.limits.items():
            if cost.of(name) > amount:
                measure = self._latency if RESOURCES[name].measured else None
                unit = getattr(measure, "unit", RESOURCES[name].unit)
                raise AutoslimError(
                    f"Cannot reach slim.limits.{name}={amount:g}: with every group at its smallest level the "
                    f"network still has {cost.of(name):.6g} {unit}. {way_out} the limit."
                )
