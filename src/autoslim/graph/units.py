"""Which channels of a traced network those of another network of its shape come from.

A narrower network has the first units of each group, one whose channels are sorted has all of them in another
order, and a wider one has some of them several times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoslim.graph.axes import FIXED, Axis, Piece
from autoslim.graph.groups import ChannelGroup


@dataclass(frozen=True)
class Units:
    """For every group, the units of the traced network that the other network's own are copies of.

    A unit of a group is `ChannelGroup.unit` channels, which stay together.
    """

    of: tuple[np.ndarray, ...]  # [G], int64 [units of the other network]
    shares: tuple[np.ndarray, ...] | None = None
    """[G], float64 [units of the other network]: what each counts where weights sum over them; None: 1."""

    @classmethod
    def first(cls, groups: Sequence[ChannelGroup], widths: np.ndarray) -> Units:
        """The first `widths` int [G] channels of every group."""
        return cls(tuple(np.arange(widths[group.index] // group.unit) for group in groups))

    def count(self, axis: Axis) -> int:
        """Entries of an axis in the other network."""
        return axis.tiles * sum(len(self._entries(piece)) for piece in axis.pieces)

    def indices(self, axis: Axis) -> np.ndarray:
        """The entry of the traced network's axis that each entry of the other network's comes from: int64."""
        found, start = [], 0
        for piece in axis.pieces:
            found.append(start + self._entries(piece))
            start += piece.size
        tiles = start * np.arange(axis.tiles)[:, None]
        return (tiles + np.concatenate(found)).ravel()

    def _entries(self, piece: Piece) -> np.ndarray:
        """Those of a piece; all of one without a group."""
        if piece.group == FIXED:
            return np.arange(piece.size)
        return (self.of[piece.group][:, None] * piece.repeat + np.arange(piece.repeat)).ravel()


def unit_counts(groups: Sequence[ChannelGroup]) -> np.ndarray:
    """Units of each group of the whole network: int64 [G]."""
    return np.array([group.size // group.unit for group in groups], np.int64)


def units_on(axis: Axis) -> list[tuple[int, np.ndarray]]:
    """The groups on an axis, and where the units of each stand: (group, int64 [units, entries])."""
    found: dict[int, list[np.ndarray]] = {}
    tile = axis.size // axis.tiles
    start = 0
    for piece in axis.pieces:
        if piece.group != FIXED:
            entries = start + np.arange(piece.size).reshape(-1, piece.repeat)
            tiled = entries[:, None, :] + tile * np.arange(axis.tiles)[:, None]
            found.setdefault(piece.group, []).append(tiled.reshape(len(entries), -1))
        start += piece.size
    return [(group, np.concatenate(parts, 1)) for group, parts in found.items()]


def entries_of(axis: Axis, values: Sequence[np.ndarray]) -> np.ndarray:
    """A value for each entry of an axis, from those of the units of its groups; 1 where there is no group."""
    parts = [
        np.ones(piece.size) if piece.group == FIXED else np.repeat(values[piece.group], piece.repeat)
        for piece in axis.pieces
    ]
    return np.tile(np.concatenate(parts), axis.tiles)
