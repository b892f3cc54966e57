"""Build a network that has more channels than the traced one: fresh, or computing the same.

What is widened from trained weights computes what the traced network does (Net2WiderNet, Chen et al. 2016): a
new channel is a copy of an old one, and what sums over them gives each copy a share of the weight that the
old one had. The shares are drawn at random, so that the copies get gradients of their own and part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError, near
from autoslim.graph.groups import ChannelGroup, matches
from autoslim.graph.materialize import materialize
from autoslim.graph.structure import Structure
from autoslim.graph.units import Units, unit_counts

UNEVEN = 0.5  # the shares of copies are drawn from 1 - this to 1 + this, and then sum to 1


def wider_widths(graph: Structure, headroom: float | Mapping[str, float], divisor: int = 1) -> np.ndarray:
    """Widths int32 [G] above the full ones.

    Args:
        graph: of the network.
        headroom: times the full width, at least 1; or {shell-style pattern of layer names: times}, of which
            the first one that matches one of a group's layers holds; groups without keep their full width.
            Frozen groups keep theirs.
        divisor: widened groups have the nearest multiple of this, and of their own unit.

    Raises:
        AutoslimError: for a factor below 1, or a pattern that matches no layer.
    """
    factors = headroom if isinstance(headroom, Mapping) else {"*": headroom}
    names = [name for group in graph.groups for name in group.layers]
    for wanted, factor in factors.items():
        if not 1 <= factor < math.inf:
            raise AutoslimError(f"headroom of {wanted!r} is {factor}: expected a number of 1 or more.")
        if not any(matches(name, (wanted,)) for name in names):
            raise AutoslimError(f"headroom of {wanted!r} matches no layer.{near(wanted, names)}")
    widths = graph.full
    for group in graph.slimmable:
        pattern = next((p for p in factors if any(matches(name, (p,)) for name in group.layers)), None)
        if pattern is not None and factors[pattern] > 1:
            grid = math.lcm(divisor, group.unit)
            exact = Fraction(factors[pattern]).limit_denominator(10**6) * group.size
            widths[group.index] = max(group.size, grid * round(exact / grid))
    return widths


def widen(
    graph: Structure, widths: Any, *, weights: bool = True, seed: int = 0, name: str | None = None
) -> keras.Model:
    """A plain Keras model with more channels than the traced one.

    With weights it computes the same, unless channels are summed up by something else than weights, where
    some then count several times: by layer, RMS and group norm, means over channels, attention.

    Args:
        graph: of the network.
        widths: int [G], nowhere below the full ones; those of frozen groups are full.
        weights: go on from the network's own; False: initialise all, as the layers' initializers say.
        seed: of the choice of copies and of their shares.
        name: of the new model; None: the traced model's.

    Raises:
        AutoslimError: naming the first group whose width is not possible, or cannot be followed by a layer.
    """
    widths = np.asarray(widths)
    for group in graph.slimmable:
        if widths[group.index] < group.size:
            raise AutoslimError(_refusal(group, widths, f"expected more, by {group.unit} each"))
    return resize(graph, widths, weights=weights, seed=seed, name=name)


def resize(
    graph: Structure, widths: Any, *, weights: bool = True, seed: int = 0, name: str | None = None
) -> keras.Model:
    """A plain Keras model in which some groups may be wider than in the traced one, and others narrower.

    Of a narrower group the first channels stay; a wider one is as in `widen`. With weights it computes what
    the traced network does at the smaller of the two widths of each group, with the exceptions of `widen`.

    Args:
        graph: of the network.
        widths: int [G], multiples of the groups' units; those of frozen groups are full.
        weights, seed, name: as of `widen`.

    Raises:
        AutoslimError: naming the first group whose width is not possible, or cannot be followed by a layer.
    """
    widths = np.asarray(widths)
    generator = np.random.default_rng(seed)
    sources, shares = [], []
    for group, units in zip(graph.groups, unit_counts(graph.groups), strict=True):
        wanted, rest = divmod(int(widths[group.index]), group.unit)
        if rest or wanted < 1:
            raise AutoslimError(_refusal(group, widths, f"expected a multiple of {group.unit}"))
        if group.frozen and wanted != units:
            raise AutoslimError(_refusal(group, widths, f"it is frozen ({group.frozen})"))
        source = _sources(int(units), wanted, generator)
        sources.append(source)
        shares.append(_shares(source, generator))
    model = materialize(graph, Units(tuple(sources), tuple(shares)), weights, name, {})
    _check(graph, type(graph)(model), widths)
    return model


def _refusal(group: ChannelGroup, widths: np.ndarray, why: str) -> str:
    return f"Group {group.name!r} can't go from {group.size} to {widths[group.index]} channels: {why}."


def _sources(units: int, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """The unit that each new one copies: first each itself, then random ones, each as often as any other."""
    rounds = [generator.permutation(units) for _ in range(math.ceil(wanted / units) - 1)]
    return np.concatenate([np.arange(units), *rounds])[:wanted]


def _shares(source: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Of each copy, what it passes on; those of one unit sum to 1."""
    drawn = generator.uniform(1 - UNEVEN, 1 + UNEVEN, len(source))
    return drawn / np.bincount(source, drawn)[source]


def _check(graph: Structure, wide: Structure, widths: np.ndarray) -> None:
    """Make sure that the wide model has the same groups, at the widths that were asked for."""
    if len(wide.groups) != len(graph.groups) or (wide.full != widths).any():
        raise AutoslimError(
            f"Model {graph.model.name!r} can't be widened like this: its layers group the channels in "
            "another way at these widths. Choose a whole number as slim.headroom, or none."
        )
