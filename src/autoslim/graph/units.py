"""Which channels of a traced network those of another network of its shape come from.

A narrower network has the first units of each group, one whose channels are sorted has all of them in another
order, and a wider one has more: units of its own, built like ones that there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoslim.graph.axes import FIXED, Axis, Piece
from autoslim.graph.groups import ChannelGroup


@dataclass(frozen=True)
class Units:
    """For every group, the units of the traced network that the other network's own are taken from.

    A unit of a group is `ChannelGroup.unit` channels, which stay together.
    """

    of: tuple[np.ndarray, ...]  # [G], int64 [units of the other network]
    new: tuple[np.ndarray, ...] | None = None
    """[G], bool [units of the other network]: which are new, and only made after those that they are taken
    from (`materialize.made_new`); None: none."""
    generator: np.random.Generator | None = None  # of the weights of new units

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

    def new_entries(self, axis: Axis) -> np.ndarray:
        """Which entries of an axis in the other network are of new units: bool."""
        parts = [
            np.zeros(piece.size, bool)
            if self.new is None or piece.group == FIXED
            else np.repeat(self.new[piece.group], piece.repeat)
            for piece in axis.pieces
        ]
        return np.tile(np.concatenate(parts), axis.tiles)

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
