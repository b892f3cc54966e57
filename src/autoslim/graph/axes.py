"""Channel axes: which stretch of a tensor's dimension belongs to which channel group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FIXED = -1  # in the place of a group: entries that are there at every width
NO_IMAGES = -1  # in the place of the batch's: a tensor is one and the same for all images, as a weight is


@dataclass(frozen=True)
class Piece:
    """A stretch of an axis that belongs to one channel group, or to none (`FIXED`).

    At width `w` of its group, the first `w // unit * repeat` of its `size` entries are active.
    """

    group: int  # index into ChannelGraph.groups; FIXED: none
    size: int  # entries at full width
    repeat: int = 1  # entries per unit of the group
    unit: int = 1  # channels per unit of the group

    def active(self, width: Any) -> Any:
        """Active entries at a width of the group: ints, int arrays or int tensors alike."""
        if self.group == FIXED:
            return self.size
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
        return tuple(dict.fromkeys(piece.group for piece in self.pieces if piece.group != FIXED))

    def active(self, widths: Any) -> Any:
        """Active entries at `widths` (int [..., G], NumPy): int [...]."""
        active = self.tiles * sum(piece.active(widths[..., piece.group]) for piece in self.pieces)
        alike = isinstance(active, int) and isinstance(widths, np.ndarray)  # at every width
        return np.full(widths.shape[:-1], active, np.int64) if alike else active

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

    def repeated(self, times: int) -> Axis:
        """Every entry of the axis `times` times, side by side."""
        return self.map_pieces(lambda p: replace(p, size=p.size * times, repeat=p.repeat * times))

    def folded(self) -> Axis:
        """The same axis, with pieces that are all alike as tiles."""
        if len(self.pieces) > 1 and len(set(self.pieces)) == 1:
            return Axis(self.pieces[:1], self.tiles * len(self.pieces))
        return self


Dimension = Axis | int | None
"""A dimension of a tensor: a channel axis, a fixed size, or a size that is not known."""


def fixed_axis(size: int) -> Axis:
    """An axis of entries that are there at every width."""
    return Axis((Piece(FIXED, size),))


def size_of(dimension: Dimension) -> int | None:
    """Entries of a dimension at full width."""
    return dimension.size if isinstance(dimension, Axis) else dimension


def _plain(dimension: Dimension) -> Dimension:
    """A dimension without groups as its size."""
    return dimension.size if isinstance(dimension, Axis) and not dimension.groups else dimension


@dataclass(frozen=True)
class Layout:
    """The dimensions of a tensor: where its channels stand, and how many other entries it has.

    The dimension of the batch is the number of rows that one image has there: 1, unless positions were folded
    into it.
    """

    dims: tuple[Dimension, ...]
    batch: int = 0  # place of the batch among them; NO_IMAGES: there is none

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(_plain(dimension) for dimension in self.dims))

    @classmethod
    def of(cls, shape: Sequence[int | None], last: Axis | None = None, rows: int = 1) -> Layout:
        """The layout of a tensor, batch first, whose channels stand last."""
        if len(shape) < 2:
            return cls((rows,) * len(shape))
        return cls((rows, *shape[1:-1], last if last is not None else shape[-1]))

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.dims)

    @property
    def has_images(self) -> bool:
        """Whether one of the dimensions is the batch."""
        return self.batch != NO_IMAGES

    @property
    def axes(self) -> tuple[tuple[int, Axis], ...]:
        """(place, axis) of every dimension that holds channels."""
        return tuple((place, d) for place, d in enumerate(self.dims) if isinstance(d, Axis))

    def axis(self, place: int = -1) -> Axis:
        """A dimension as a channel axis; that of the batch, and one of unknown size, as a single entry."""
        if self.rank < (2 if self.has_images else 1):
            return fixed_axis(1)
        dimension = self.dims[place]
        return dimension if isinstance(dimension, Axis) else fixed_axis(dimension or 1)

    def with_dim(self, place: int, dimension: Dimension) -> Layout:
        """The layout with another dimension at a place."""
        dims = list(self.dims)
        dims[place] = dimension
        return Layout(tuple(dims), self.batch)

    def map_axes(self, change: Callable[[Axis], Axis]) -> Layout:
        """The layout with every channel axis replaced by `change(axis)`."""
        return Layout(tuple(change(d) if isinstance(d, Axis) else d for d in self.dims), self.batch)

    def entries(self, widths: np.ndarray) -> Any:
        """Entries for one image at widths int64 [..., G]: int64 [...]; None where sizes are not known."""
        return None if None in self.dims else entries(self.dims, widths)


def entries(dims: Iterable[Dimension], widths: np.ndarray) -> Any:
    """The product of dimensions, whose sizes are known, at widths int64 [..., G]: int64 [...]."""
    known = list(dims)
    number = math.prod(d for d in known if isinstance(d, int))
    total: Any = np.full(widths.shape[:-1], number, np.int64)
    for dimension in known:
        if isinstance(dimension, Axis):
            total = total * dimension.active(widths)
    return total
