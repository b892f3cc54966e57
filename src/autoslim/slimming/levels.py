"""The widths that each channel group may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph, ChannelGroup
from autoslim.schema import SlimConfig


@dataclass(frozen=True)
class Levels:
    """Per channel group the widths that it may take, distinct and ascending; the last is its full width."""

    widths: tuple[tuple[int, ...], ...]  # [G], each of its own length
    divisor: int = 1  # of which widths are multiples, full ones aside

    def __post_init__(self) -> None:
        for group, widths in enumerate(self.widths):
            if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1:
                raise AutoslimError(
                    f"Levels {tuple(widths)} of group {group} are not distinct, ascending widths of at least "
                    "1. Levels.spaced makes them."
                )

    @classmethod
    def spaced(
        cls,
        graph: ChannelGraph,
        levels: int = SlimConfig.levels,
        min_width: float = SlimConfig.min_width,
        divisor: int = SlimConfig.divisor,
        step: int | None = None,
        base: np.ndarray | None = None,
    ) -> Levels:
        """At most `levels` widths per group, evenly spaced from `min_width` of its size to all of it.

        Args:
            graph: whose groups; frozen ones keep their full width.
            levels: number of widths, at least 2; fewer only where there are fewer multiples of the divisor.
            min_width: smallest width as a share of the full one, in (0, 1]; no level is below it.
            divisor: widths are the nearest multiples of this (and of the group's own unit); the full width
                always stays.
            step: in place of `levels`: all multiples of this many channels, rounded up to one of the divisor.
            base: widths int32 [G] of a narrower network, whose shares `min_width` then is of, and which is
                among the levels; None: the full one.

        Raises:
            AutoslimError: for an argument out of range, or if no group is left with a choice.
        """
        SlimConfig(levels=levels, min_width=min_width, divisor=divisor, step=step)  # checks them
        own = [group.size for group in graph.groups] if base is None else graph.check(base)
        widths = tuple(
            _with_base(_group_levels(group, levels, min_width * w / group.size, divisor, step), int(w))
            for group, w in zip(graph.groups, own, strict=True)
        )
        spaced = cls(widths, divisor)
        if all(len(widths) == 1 for widths in spaced.widths):
            sizes = [group.size for group in graph.slimmable]
            raise AutoslimError(
                f"No channel group can be slimmed: {len(graph.slimmable)} of {len(graph.groups)} groups are "
                f"not frozen{f', the largest of {max(sizes)} channels' if sizes else ''}, and none has a "
                f"second width at slim.min_width={min_width}, slim.divisor={divisor}. Freeze less, or lower "
                "slim.divisor."
            )
        return spaced

    @property
    def largest(self) -> np.ndarray:
        """Every group at its full width: int32 [G]."""
        return np.array([widths[-1] for widths in self.widths], np.int32)

    @property
    def smallest(self) -> np.ndarray:
        """Every group at its smallest width: int32 [G]."""
        return np.array([widths[0] for widths in self.widths], np.int32)

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """Every group at a level of its own, drawn evenly: int32 [G]."""
        return np.array([generator.choice(widths) for widths in self.widths], np.int32)

    def narrower(self, group: int, width: int) -> int | None:
        """The next level of a group below `width`, or None at the smallest."""
        below = [level for level in self.widths[group] if level < width]
        return below[-1] if below else None

    def wider(self, group: int, width: int) -> int | None:
        """The next level of a group above `width`, or None at the largest."""
        return next((level for level in self.widths[group] if level > width), None)

    def one_narrower(self, widths: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Every group one level narrower, where it has one: (groups [K], widths int32 [K, G])."""
        return _one_changed(widths, self.narrower)

    def one_wider(self, widths: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Every group one level wider, where it has one: (groups [K], widths int32 [K, G])."""
        return _one_changed(widths, self.wider)

    def uniform(self, ratio: float) -> np.ndarray:
        """Every group at the level nearest to `ratio` of its size: int32 [G]."""
        return np.array(
            [min(widths, key=lambda w: (abs(w - ratio * widths[-1]), w)) for widths in self.widths], np.int32
        )


def _one_changed(
    widths: np.ndarray, change: Callable[[int, int], int | None]
) -> tuple[list[int], np.ndarray]:
    """Every group at `change(group, width)`, where that is not None: (groups [K], widths int32 [K, G])."""
    groups, candidates = [], []
    for group, width in enumerate(widths):
        level = change(group, int(width))
        if level is not None:
            candidate = np.array(widths, np.int32)
            candidate[group] = level
            groups.append(group)
            candidates.append(candidate)
    return groups, np.reshape(np.array(candidates, np.int32), (len(groups), len(widths)))


def _with_base(widths: tuple[int, ...], base: int) -> tuple[int, ...]:
    """The widths with `base` among them, in place of the nearest one between the ends."""
    if base in widths:
        return widths
    between = widths[1:-1]
    left = sorted(between, key=lambda width: abs(width - base))[1:] if len(between) > 1 else between
    return tuple(sorted({widths[0], *left, base, widths[-1]}))


def _group_levels(
    group: ChannelGroup, count: int, min_width: float, divisor: int, step: int | None
) -> tuple[int, ...]:
    """The widths of one group: multiples of the divisor and of the group's unit, and its full width."""
    if group.frozen:
        return (group.size,)
    grid = math.lcm(divisor, group.unit)
    if step is not None:
        grid *= math.ceil(step / grid)
    least = grid * math.ceil(min_width * group.size / grid - 1e-9)
    possible = [*range(least, group.size, grid), group.size]
    if step is not None or len(possible) <= count:
        return tuple(possible)
    shares = np.linspace(min_width, 1.0, count)
    widths = {max(least, grid * round(share * group.size / grid)) for share in shares[:-1]}
    widths = {width for width in widths if width < group.size}
    if len(widths) < count - 1:  # two levels fell on one multiple: spread them over the multiples themselves
        widths = {possible[i] for i in np.linspace(0, len(possible) - 1, count).round().astype(int)[:-1]}
    return (*sorted(widths), group.size)
