"""Channel axes: which stretch of a tensor's last axis belongs to which channel group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Piece:
    """A stretch of an axis that belongs to one channel group.

    At width `w` of its group, the first `w // unit * repeat` of its `size` entries are active.
    """

    group: int  # index into ChannelGraph.groups
    size: int  # entries at full width
    repeat: int = 1  # entries per unit of the group
    unit: int = 1  # channels per unit of the group

    def active(self, width: Any) -> Any:
        """Active entries at a width of the group: ints, int arrays or int tensors alike."""
        return width if self.unit == self.repeat else width // self.unit * self.repeat


@dataclass(frozen=True)
class Axis:
    """A channel axis: pieces side by side (concatenation), the whole repeated `tiles` times (flattening)."""

    pieces: tuple[Piece, ...]
    tiles: int = 1

    @property
    def size(self) -> int:
        """Entries at full width."""
        return self.tiles * sum(piece.size for piece in self.pieces)

    @property
    def groups(self) -> tuple[int, ...]:
        """Indices of the groups on this axis, without repetition."""
        return tuple(dict.fromkeys(piece.group for piece in self.pieces))

    def active(self, widths: Any) -> Any:
        """Active entries at `widths` (int [..., G], NumPy): int [...]."""
        return self.tiles * sum(piece.active(widths[..., piece.group]) for piece in self.pieces)

    def indices(self, widths: np.ndarray) -> np.ndarray:
        """Positions of the active entries at `widths` (int [G]): ascending int64 [active]."""
        mask = np.concatenate([np.arange(p.size) < p.active(int(widths[p.group])) for p in self.pieces])
        return np.flatnonzero(np.tile(mask, self.tiles))

    def map_pieces(self, change: Callable[[Piece], Piece]) -> Axis:
        """The same axis with every piece replaced by `change(piece)`."""
        return Axis(tuple(change(piece) for piece in self.pieces), self.tiles)

    def flat_pieces(self) -> tuple[Piece, ...]:
        """The pieces with the tiling written out."""
        return self.pieces * self.tiles


Dimension = Axis | int  # a dimension of a weight: a channel axis, or a fixed size
