"""The path of a search: widths, cost and score after every step. Every budget is a point on it."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from autoslim.errors import AutoslimError
from autoslim.resources import RESOURCES, SUMMARY, Cost
from autoslim.tabular import Tabular


@dataclass(frozen=True)
class Point:
    """One network on the path."""

    widths: tuple[int, ...]  # [G]
    group: int | None  # the group that was narrowed to come here; None: the full network
    cost: Cost  # whole numbers, and what was measured
    share: float  # of the full network's resource
    loss: float  # mean on the held-out images
    loss_error: float  # its standard error
    metric: float  # of the task, mean on the held-out images; of classification top-1
    macs: int  # multiply-accumulates spent on this step
    images: int = 0  # held-out images that its own score is of; 0: all, in paths of earlier versions
    scored: int = 0  # images scored in this step, each as often as a network was scored on it
    naive_macs: int = 0  # multiply-accumulates of all candidates on all images: what naive search spends
    widened: int | None = None  # the group that was widened in exchange for the narrowed one
    lead: float | None = None  # on the other candidates of its step, in standard errors; None: not known

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, with an entry for each resource."""
        return dataclasses.asdict(self, dict_factory=_flat)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Point:
        """From what `to_dict` returned."""
        own = {name: value for name, value in data.items() if name not in RESOURCES}
        return cls(**{**own, "widths": tuple(data["widths"]), "cost": Cost.read(data)})


_HEAD = ("step", "widening", "exchange", "group", "widened")
_SCORES = [f.name for f in dataclasses.fields(Point) if f.name not in ("widths", "group", "cost", "widened")]
_FIGURES = (*RESOURCES, *_SCORES)
"""The columns of a point in tables: what changed, then costs, scores and spending."""


@dataclass(frozen=True)
class Exchange:
    """What exchanges made of the path's network for one target."""

    target: float
    points: tuple[Point, ...] = ()  # after each exchange that was kept
    done: bool = False  # no more exchange was found that helps
    macs: int = 0  # multiply-accumulates spent on exchanges that were not kept


@dataclass(frozen=True)
class Widening:
    """How what the path left of a target's budget was given back to the groups, a level at a time."""

    target: float
    points: tuple[Point, ...] = ()  # after each widening
    done: bool = False  # nothing wider fits and helps
    macs: int = 0  # multiply-accumulates spent on a widening that was not kept
    queue: tuple[float | None, ...] = ()  # last known change of the score by widening each group


@dataclass(frozen=True)
class Final:
    """Candidates for one target that were trained for a while, and the best of them."""

    target: float
    points: tuple[Point, ...]  # with the scores that they have after it, the method's own network first
    chosen: int  # place of the best among them


@dataclass(frozen=True, repr=False)
class Trajectory(Tabular):
    """A greedy path from the full network down, and what it was measured on."""

    groups: tuple[str, ...]  # names of the channel groups [G]
    resource: str  # what the targets limit
    full: Cost  # of the full network
    images: int  # held-out images
    points: tuple[Point, ...]  # the full network first
    queue: tuple[float | None, ...] = ()  # last known drop of the score by each group's next step
    widenings: tuple[Widening, ...] = ()  # one for each target whose budget was given back
    exchanges: tuple[Exchange, ...] = ()  # one for each target for which exchanges were tried
    finals: tuple[Final, ...] = ()  # one for each target whose candidates were trained
    undone_macs: int = 0  # multiply-accumulates of widenings and exchanges that were taken back

    columns: ClassVar[tuple[str, ...]] = ("step", "group", "share", *SUMMARY, "loss", "metric")

    def at(self, target: float, limits: Mapping[str, float] = MappingProxyType({})) -> Point:
        """The network for `target`, a share of the resource, within all `limits`.

        It is the first point of the path that keeps within them, or what widenings and exchanges made of it;
        and if candidates were trained, the best of them.

        Raises:
            AutoslimError: if the path does not reach so far.
        """
        final = self.final(target)
        if final is not None and _within(final.points[final.chosen], target, limits):
            return final.points[final.chosen]
        for kept in (self.exchange(target).points, self.widening(target).points):
            if kept and _within(kept[-1], target, limits):
                return kept[-1]
        return self.first_within(target, limits)

    def first_within(self, target: float, limits: Mapping[str, float] = MappingProxyType({})) -> Point:
        """The first point of the path within `target` and all `limits`.

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

    def widening(self, target: float) -> Widening:
        """How a target's budget was given back so far."""
        return next((w for w in self.widenings if w.target == target), Widening(target))

    def widened(self, widening: Widening) -> Trajectory:
        """The path with this in the place of the widenings for the same target."""
        others = tuple(w for w in self.widenings if w.target != widening.target)
        return dataclasses.replace(self, widenings=(*others, widening))

    def final(self, target: float) -> Final | None:
        """The candidates that were trained for a target; None: none were."""
        return next((f for f in self.finals if f.target == target), None)

    def exchange(self, target: float) -> Exchange:
        """The exchanges that were tried for a target."""
        return next((e for e in self.exchanges if e.target == target), Exchange(target))

    def exchanged(self, target: float, moves: int) -> bool:
        """Whether all that `moves` exchanges can do for a target was done."""
        there = self.exchange(target)
        return there.done or len(there.points) >= moves

    def exchanging(self, exchange: Exchange) -> Trajectory:
        """The path with this in the place of the exchanges for the same target."""
        others = tuple(e for e in self.exchanges if e.target != exchange.target)
        return dataclasses.replace(self, exchanges=(*others, exchange))

    def without_moves(self) -> Trajectory:
        """The way down alone, with the arithmetic of the widenings and exchanges that it had."""
        down = sum(point.macs for point in self.points)
        return dataclasses.replace(self, widenings=(), exchanges=(), finals=(), undone_macs=self.macs - down)

    def channels(self, point: Point) -> dict[str, int]:
        """{group name: width} of a point."""
        return dict(zip(self.groups, point.widths, strict=True))

    def then(self, point: Point, queue: tuple[float | None, ...] = ()) -> Trajectory:
        """The path with one more point, and the queue after it."""
        return dataclasses.replace(self, points=(*self.points, point), queue=queue)

    @property
    def passes(self) -> float:
        """What the search has spent, in full-network passes over the held-out images (the first point: 1)."""
        return (self.macs - self.trained_macs) / self.points[0].macs

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the search has spent, widenings, exchanges and finalists included."""
        spent = self.undone_macs + sum(point.macs for point in self.points)
        moves: tuple[Widening | Exchange, ...] = (*self.widenings, *self.exchanges)
        for move in moves:
            spent += move.macs + sum(point.macs for point in move.points)
        return spent + self.trained_macs

    @property
    def trained_macs(self) -> int:
        """Multiply-accumulates of training and judging finalists."""
        return sum(point.macs for final in self.finals for point in final.points)

    @property
    def share_of_naive(self) -> float:
        """What the path took against scoring all candidates of its steps on all images; NaN: not known.

        Widenings and exchanges are in neither: naive search has none.
        """
        if not all(point.naive_macs for point in self.points):
            return math.nan
        return sum(p.macs for p in self.points) / sum(p.naive_macs for p in self.points)

    @property
    def leads(self) -> list[float]:
        """How sure the choice of each step down was, where that is known: see `Trial.lead`."""
        return [point.lead for point in self.points if point.lead is not None]

    @property
    def on_all_images(self) -> bool:
        """Whether whatever was scored for the path was scored on all held-out images."""
        return all(p.images in (0, self.images) and p.scored % self.images == 0 for p in self.points)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return dataclasses.asdict(self, dict_factory=_flat)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trajectory:
        """From what `to_dict` returned."""
        exchanges = [{**e, "points": _points(e["points"])} for e in data.get("exchanges", ())]
        widenings = [
            {**w, "points": _points(w["points"]), "queue": tuple(w["queue"])}
            for w in data.get("widenings", ())
        ]
        full = {f"full_{name}" for name in RESOURCES}
        changed = {
            "full": Cost.read(data, "full_"),
            "groups": tuple(data["groups"]),
            "points": _points(data["points"]),
            "queue": tuple(data.get("queue", ())),
            "widenings": tuple(Widening(**w) for w in widenings),
            "exchanges": tuple(Exchange(**e) for e in exchanges),
            "finals": tuple(Final(**{**f, "points": _points(f["points"])}) for f in data.get("finals", ())),
        }
        return cls(**{**{name: value for name, value in data.items() if name not in full}, **changed})

    def to_csv(self) -> str:
        """One row a point: step, groups changed, costs, scores, spending, and the width of every group.

        Rows of widenings and of exchanges follow the path's; `widening` or `exchange` is their target.
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*_HEAD, *_FIGURES, *self.groups])
        writer.writerows(self._lines())
        return out.getvalue()

    def rows(self) -> list[dict[str, Any]]:
        """A dict a point, with the columns of `to_csv`; widths as "channels GROUP"."""
        names = [*_HEAD, *_FIGURES, *(f"channels {group}" for group in self.groups)]
        return [dict(zip(names, line, strict=True)) for line in self._lines()]

    def caption(self) -> str:
        """How far the search went, and on what it was scored."""
        return (
            f"{len(self.points) - 1} steps from the full network to {self.points[-1].share:.3f} of its "
            f"{self.resource}, scored on {self.images:,} held-out images"
        )

    def _lines(self) -> Iterator[list[Any]]:
        """The cells of every point."""
        parts: list[tuple[float | None, float | None, int, tuple[Point, ...]]] = [
            (None, None, 0, self.points)
        ]
        parts += [(w.target, None, 1, w.points) for w in self.widenings]
        parts += [(None, e.target, 1, e.points) for e in self.exchanges]
        for widening, exchange, first, points in parts:
            for step, point in enumerate(points, first):
                changed = [None if g is None else self.groups[g] for g in (point.group, point.widened)]
                values = point.to_dict()
                amounts = [values.get(name) for name in _FIGURES]
                yield [step, widening, exchange, *changed, *amounts, *point.widths]


def _points(data: Iterable[Mapping[str, Any]]) -> tuple[Point, ...]:
    return tuple(Point.from_dict(point) for point in data)


def _flat(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Fields as plain data: the amounts of a cost stand among the others."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(value, Cost):
            prefix = "" if name == "cost" else f"{name}_"
            found.update({prefix + resource: amount for resource, amount in value.row().items()})
        else:
            found[name] = value
    return found


def _within(point: Point, target: float, limits: Mapping[str, float]) -> bool:
    return point.share <= target and all(point.cost.of(name) <= limits[name] for name in limits)
