"""The path of a search: widths, cost and score after every step. Every budget is a point on it."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from autoslim.errors import AutoslimError


@dataclass(frozen=True)
class Point:
    """One network on the path."""

    widths: tuple[int, ...]  # [G]
    group: int | None  # the group that was narrowed to come here; None: the full network
    flops: int
    params: int
    memory: int  # bytes
    share: float  # of the full network's resource
    loss: float  # mean cross-entropy on the held-out images
    loss_error: float  # its standard error
    top1: float  # share of held-out images that are right
    macs: int  # multiply-accumulates spent on this step
    latency: float | None = None  # predicted milliseconds for one image, where it was asked for
    images: int = 0  # held-out images that its own score is of; 0: all, in paths of earlier versions
    scored: int = 0  # images scored in this step, each as often as a network was scored on it
    naive_macs: int = 0  # multiply-accumulates of all candidates on all images: what naive search spends


@dataclass(frozen=True)
class Trajectory:
    """A greedy path from the full network down, and what it was measured on."""

    groups: tuple[str, ...]  # names of the channel groups [G]
    resource: str  # what the targets limit
    full_flops: int
    full_params: int
    full_memory: int
    images: int  # held-out images
    points: tuple[Point, ...]  # the full network first
    full_latency: float | None = None  # predicted milliseconds, where it was asked for
    queue: tuple[float | None, ...] = ()  # last known drop of each group, where the search is lazy

    def full(self, resource: str) -> float:
        """The full network's cost: "flops", "params", "memory" or "latency"."""
        return getattr(self, f"full_{resource}")

    def at(self, target: float, limits: Mapping[str, float] = MappingProxyType({})) -> Point:
        """The first point that keeps within `target`, a share of the resource, and within all `limits`.

        Raises:
            AutoslimError: if the path does not reach so far.
        """
        for point in self.points:
            if _within(point, target, limits):
                return point
        raise AutoslimError(
            f"The search reached {self.points[-1].share:.3f} of the full {self.resource}, not {target:g}"
            f"{' within ' + ', '.join(limits) if limits else ''}. "
            "Search on with this budget."
        )

    def reaches(self, target: float, limits: Mapping[str, float] = MappingProxyType({})) -> bool:
        """Whether a point of the path keeps within the budget."""
        return any(_within(point, target, limits) for point in self.points)

    def channels(self, point: Point) -> dict[str, int]:
        """{group name: width} of a point."""
        return dict(zip(self.groups, point.widths, strict=True))

    def then(self, point: Point, queue: tuple[float | None, ...] = ()) -> Trajectory:
        """The path with one more point, and the queue after it."""
        return dataclasses.replace(self, points=(*self.points, point), queue=queue)

    @property
    def passes(self) -> float:
        """What the search has spent, in full-network passes over the held-out images (the first point: 1)."""
        return sum(point.macs for point in self.points) / self.points[0].macs

    @property
    def share_of_naive(self) -> float:
        """Spent against scoring all candidates of all steps on all images; NaN: not known."""
        if not all(point.naive_macs for point in self.points):
            return math.nan
        return sum(point.macs for point in self.points) / sum(point.naive_macs for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trajectory:
        """From what `to_dict` returned."""
        points = tuple(Point(**{**point, "widths": tuple(point["widths"])}) for point in data["points"])
        groups, queue = tuple(data["groups"]), tuple(data.get("queue", ()))
        return cls(**{**data, "groups": groups, "points": points, "queue": queue})

    def to_csv(self) -> str:
        """One row a point: step, group narrowed, costs, scores, spending, and the width of every group."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        figures = [f.name for f in dataclasses.fields(Point) if f.name not in ("widths", "group")]
        writer.writerow(["step", "group", *figures, *self.groups])
        for step, point in enumerate(self.points):
            group = "" if point.group is None else self.groups[point.group]
            writer.writerow([step, group, *(getattr(point, name) for name in figures), *point.widths])
        return out.getvalue()


def _within(point: Point, target: float, limits: Mapping[str, float]) -> bool:
    return point.share <= target and all(getattr(point, name) <= limits[name] for name in limits)
