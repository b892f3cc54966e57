"""Channel groups: which channel dimensions must keep the same width."""

from __future__ import annotations

import bisect
import fnmatch
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autoslim.errors import AutoslimError
from autoslim.graph.axes import FIXED, Axis, Layout, Piece


@dataclass(frozen=True)
class ChannelGroup:
    """The set of channel dimensions that keep the same width."""

    index: int  # place in every widths vector
    name: str  # the first layer that makes it
    size: int  # channels at full width
    unit: int  # widths are multiples of this (larger than 1 behind grouped convolutions)
    frozen: str | None  # why it keeps its full width; None: it can be slimmed
    layers: tuple[str, ...]  # layers whose outputs are in it, in topological order


Call = tuple[str, int]  # the n-th axis that was made in a name
Cuts = dict[Call, set[int]]  # units at which an axis is cut into pieces of groups of their own


@dataclass
class _Member:
    name: str
    units: int
    repeat: int
    parent: int
    call: Call | None = None  # of `new`; None: made to stand for coarser units
    start: int = 0  # units of the call before this member, where it was cut
    factor: int = 1  # own units per unit of the parent
    fixed: bool = False  # frozen for a reason that no cut takes away
    tentative: bool = False  # of a weight's dimension, which may have nothing to do with channels
    reasons: list[str] = field(default_factory=list)


class Grouping:
    """Union-find over channel dimensions, filled by the rules' `connect`.

    Pieces made here carry a member number in `group`; `solve` replaces it by the final group index.
    Members of different granularity (a grouped convolution moves whole blocks of channels) are joined at
    the coarsest common unit.

    A layer's channels are one group, unless something further on takes them apart: a split, or a sum with a
    concatenation. Where that is only becomes known on the way, so the graph is connected again with the cuts
    that `more_cuts` tells.
    """

    def __init__(self, cuts: Cuts | None = None) -> None:
        self._members: list[_Member] = []
        self._cuts: Cuts = cuts or {}
        self._calls: dict[str, int] = {}
        self._asked: list[tuple[Piece, int]] = []

    def new(self, name: str, units: int, repeat: int = 1, tentative: bool = False) -> Axis:
        """An axis of a new group: `units` units of `repeat` channels each, named `name`.

        Of several groups, side by side, where it is to be cut. A `tentative` axis that is frozen, and that no
        other is tied to, is no group: its entries are there at every width.
        """
        call = (name, self._calls.get(name, 0))
        self._calls[name] = call[1] + 1
        bounds = [0, *sorted(cut for cut in self._cuts.get(call, ()) if cut < units), units]
        pieces = []
        for start, end in itertools.pairwise(bounds):
            index = len(self._members)
            member = _Member(name, end - start, repeat, index, call, start, tentative=tentative)
            self._members.append(member)
            pieces.append(Piece(index, (end - start) * repeat, repeat))
        return Axis(tuple(pieces))

    def blocks(self, piece: Piece, size: int, name: str) -> Piece:
        """A piece as blocks of `size` entries that stay whole; it is cut only where the piece is."""
        if piece.group == FIXED:
            return Piece(FIXED, piece.size, size)
        index = len(self._members)
        self._members.append(_Member(name, piece.size // size, size, index, tentative=True))
        block = Piece(index, piece.size, size)
        self.tie(Axis((piece,)), Axis((block,)), name)
        return block

    def tie(self, first: Axis, second: Axis, name: str) -> None:
        """Demand that two axes keep the same channels; freezes both where their pieces don't line up.

        Raises:
            AutoslimError: if their sizes differ.
        """
        if first.size != second.size:
            raise AutoslimError(f"Layer {name!r} joins axes of {first.size} and {second.size} channels.")
        a, b = (
            (first.pieces, second.pieces)
            if first.tiles == second.tiles
            else (first.flat_pieces(), second.flat_pieces())
        )
        a, b = _cut_fixed(a, b), _cut_fixed(b, a)
        if [p.size for p in a] != [p.size for p in b]:
            reason = f"{name} joins concatenations whose pieces don't line up"
            for axis, other in ((first, b), (second, a)):
                self.cut(axis, itertools.accumulate(piece.size for piece in other))
                self.freeze(axis, reason, fixed=False)
            return
        for p, q in zip(a, b, strict=True):
            if FIXED in (p.group, q.group):
                self.freeze(Axis((p, q)), f"{name} joins them with entries that are there at every width")
            else:
                self._join(p, q)

    def tiled(self, axis: Axis, count: int, name: str) -> Axis | None:
        """One of `count` equal stretches of an axis that keep the same channels.

        None where a stretch would end within a piece; that piece is to be cut there.
        """
        if axis.tiles % count == 0:
            return Axis(axis.pieces, axis.tiles // count)
        size = axis.size // count
        stretches = stretches_of(axis.flat_pieces(), [size] * count)
        if stretches is None:
            self.cut(axis, range(size, axis.size, size))
            return None
        first, *others = (Axis(pieces) for pieces in stretches)
        for other in others:
            self.tie(first, other, name)
        return first

    def freeze(self, axis: Axis, reason: str, fixed: bool = True) -> None:
        """Keep every group on the axis at full width, for `reason`; not `fixed`: unless cuts help."""
        for piece in axis.pieces:
            if piece.group == FIXED:
                continue
            member = self._members[self._root(piece.group)[0]]
            member.fixed |= fixed
            if reason not in member.reasons:
                member.reasons.append(reason)

    def cut(self, axis: Axis, bounds: Iterable[int]) -> None:
        """Ask for pieces of the axis to end at these entries, when the graph is connected again."""
        inner, start = sorted(set(bounds)), 0
        for piece in axis.flat_pieces():
            first = bisect.bisect_right(inner, start)
            last = bisect.bisect_left(inner, start + piece.size)
            if piece.group != FIXED:
                self._asked += [(piece, bound - start) for bound in inner[first:last]]
            start += piece.size

    def more_cuts(self) -> Cuts:
        """The cuts that this was made with, and those asked for since; empty if none of these can be made.

        What is frozen for another reason is not cut, nor are blocks of channels that stay whole.
        """
        asked: dict[int, set[int]] = {}  # root -> its units
        for piece, entries in self._asked:
            root, factor = self._root(piece.group)
            units, rest = divmod(entries, piece.repeat * factor)
            if not rest and not self._members[root].fixed:
                asked.setdefault(root, set()).add(units)
        cuts: Cuts = {call: set(units) for call, units in self._cuts.items()}
        for index, member in enumerate(self._members):
            root, factor = self._root(index)
            if member.call is not None and root in asked:
                cuts.setdefault(member.call, set()).update(member.start + u * factor for u in asked[root])
        return cuts if asked else {}

    def _root(self, index: int) -> tuple[int, int]:
        factor = 1  # units of `index` per unit of the root
        while self._members[index].parent != index:
            factor *= self._members[index].factor
            index = self._members[index].parent
        return index, factor

    def _join(self, first: Piece, second: Piece) -> None:
        a, _ = self._root(first.group)
        b, _ = self._root(second.group)
        if a == b:
            return
        a, b = min(a, b), max(a, b)
        old, absorbed = self._members[a], self._members[b]
        units = math.gcd(old.units, absorbed.units)
        if units != old.units:  # the earlier member becomes coarser: it stands below a root of its own kind
            root = len(self._members)
            self._members.append(
                _Member(
                    old.name,
                    units,
                    old.repeat * old.units // units,
                    root,
                    fixed=old.fixed,
                    reasons=list(old.reasons),
                    tentative=True,
                )
            )
            old.parent, old.factor = root, old.units // units
            a = root
        absorbed.parent, absorbed.factor = a, absorbed.units // units
        self._members[a].fixed |= absorbed.fixed
        for reason in absorbed.reasons:
            if reason not in self._members[a].reasons:
                self._members[a].reasons.append(reason)

    def _final_piece(self, piece: Piece, place: dict[int, tuple[int, int]]) -> Piece:
        """A piece in terms of the final groups; `place` is root -> (group index, unit)."""
        if piece.group == FIXED:
            return piece
        root, factor = self._root(piece.group)
        if root not in place:
            return Piece(FIXED, piece.size)
        group, unit = place[root]
        return Piece(group, piece.size, piece.repeat * factor, unit)

    def solve(self, layouts: dict[int, Layout], makers: Sequence[tuple[str, int]]) -> Solution:
        """Close the union-find.

        A group takes its name and its size from its first member that is not tentative.

        Args:
            layouts: value id -> layout.
            makers: (layer name, value id) in topological order: whose outputs are members of what.
        """
        first: dict[int, _Member] = {}  # root -> first member, in the order of first members
        for index, member in enumerate(self._members):
            root = self._root(index)[0]
            if first.setdefault(root, member).tentative and not member.tentative:
                first[root] = member
        first = {
            root: member for root, member in first.items() if not (member.tentative and self._frozen(root))
        }
        place = {root: (index, self._unit(root, first[root])) for index, root in enumerate(first)}
        final = {
            value: layout.map_axes(
                lambda axis: axis.map_pieces(lambda p: self._final_piece(p, place)).folded()
            )
            for value, layout in layouts.items()
        }
        layers: list[dict[str, None]] = [{} for _ in first]
        for name, value in makers:
            for _, axis in final[value].axes:
                for group in axis.groups:
                    layers[group][name] = None
        names = _unique([member.name for member in first.values()])
        groups = tuple(
            ChannelGroup(
                index=index,
                name=names[index],
                size=first[root].units * first[root].repeat,
                unit=unit,
                frozen=self._frozen(root),
                layers=tuple(layers[index]),
            )
            for root, (index, unit) in place.items()
        )
        return Solution(groups, final)

    def _unit(self, root: int, first: _Member) -> int:
        """Channels of the group's first member in one unit of the group."""
        return first.units * first.repeat // self._members[root].units

    def _frozen(self, root: int) -> str | None:
        """Why a group keeps its full width, or None."""
        member = self._members[root]
        if not member.reasons and member.units == 1:
            return "it has a single channel" if member.repeat == 1 else "its channels form a single block"
        return "; ".join(member.reasons) or None


@dataclass(frozen=True)
class Solution:
    """What `Grouping.solve` finds."""

    groups: tuple[ChannelGroup, ...]
    layouts: dict[int, Layout]  # value id -> layout


def stretches_of(pieces: Sequence[Piece], sizes: Sequence[int]) -> list[tuple[Piece, ...]] | None:
    """Pieces shared out among stretches of the given sizes; None where a stretch would end within a piece."""
    bounds = list(itertools.accumulate(sizes))
    left = list(_cut_at(pieces, bounds))
    stretches = []
    for size in sizes:
        taken: list[Piece] = []
        while left and sum(piece.size for piece in taken) < size:
            taken.append(left.pop(0))
        if sum(piece.size for piece in taken) != size:
            return None
        stretches.append(tuple(taken))
    return stretches


def _cut_fixed(pieces: tuple[Piece, ...], others: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Pieces, those without a group cut where the other ones end."""
    return _cut_at(pieces, list(itertools.accumulate(piece.size for piece in others)))


def _cut_at(pieces: Sequence[Piece], bounds: Sequence[int]) -> tuple[Piece, ...]:
    """Pieces, those without a group cut at the bounds: it makes no difference there."""
    cut, start = [], 0
    for piece in pieces:
        end = start + piece.size
        if piece.group == FIXED:
            inner = [start, *(bound for bound in bounds if start < bound < end), end]
            cut += [Piece(FIXED, after - before) for before, after in itertools.pairwise(inner)]
        else:
            cut.append(piece)
        start = end
    return tuple(cut)


def _unique(names: list[str]) -> list[str]:
    """Names made distinct by a number behind repetitions (a shared layer makes a group at each call)."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return result


def matches(name: str, patterns: Sequence[str]) -> str | None:
    """The first shell-style pattern that a layer name matches, or None."""
    return next((p for p in patterns if fnmatch.fnmatchcase(name, p)), None)
