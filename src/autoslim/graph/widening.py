"""Build a network that has more channels than the traced one: fresh, or computing the same.

What is widened from trained weights computes what the traced network does: what reads the new channels begins
at 0 (one side of new neurons is zero, as in Evci et al. 2022, arXiv 2201.05125), and what makes a new one is
what makes an old one, its weights in another order: it computes something else of about the same size.
Copies that share what reads them (Net2WiderNet, Chen et al. 2016) get gradients that hardly differ, and stay
alike; and a network cut from them lacks the shares of those that were cut off, where one cut here has lost
nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError, near
from autoslim.graph.comparing import difference
from autoslim.graph.groups import ChannelGroup, matches
from autoslim.graph.materialize import materialize
from autoslim.graph.structure import Structure
from autoslim.graph.units import Units, unit_counts

log = logging.getLogger(__name__)


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
    """A plain Keras model with more channels than the traced one, the new ones last in each group.

    With weights it computes the same, and so does every narrower network cut from it that has the traced
    one's channels, unless channels are normalised together or summed up by something else than weights: by
    layer, RMS and group norm, means over channels, attention, kernels that are standardised. Where it does
    not, a warning says by how much.

    Args:
        graph: of the network.
        widths: int [G], nowhere below the full ones; those of frozen groups are full.
        weights: go on from the network's own; False: initialise all, as the layers' initializers say.
        seed: of what new channels are made of, and in which order.
        name: of the new model; None: the traced model's.

    Raises:
        AutoslimError: naming the first group whose width is not possible, or cannot be followed by a layer.
    """
    widths = np.asarray(widths)
    generator, sources, new = np.random.default_rng(seed), [], []
    for group, units in zip(graph.groups, unit_counts(graph.groups), strict=True):
        wanted, rest = divmod(int(widths[group.index]), group.unit)
        if group.frozen and wanted != units:
            raise AutoslimError(_refusal(group, widths, f"it is frozen ({group.frozen})"))
        if rest or wanted < units:
            raise AutoslimError(_refusal(group, widths, f"expected none fewer, in steps of {group.unit}"))
        more = [generator.permutation(units) for _ in range(math.ceil(wanted / units) - 1)]
        sources.append(np.concatenate([np.arange(units), *more])[:wanted])
        new.append(np.arange(wanted) >= units)
    model = materialize(graph, Units(tuple(sources), tuple(new), generator), weights, name, {})
    _check(graph, type(graph)(model), widths)
    if weights and (apart := difference(graph, model)):
        log.warning(
            "Model %r, widened, answers differently by up to %.2g of the largest output: it normalises "
            "channels together, or sums them up by other means than weights. Training goes on from there.",
            model.name,
            apart,
        )
    return model


def _refusal(group: ChannelGroup, widths: np.ndarray, why: str) -> str:
    return f"Group {group.name!r} can't go from {group.size} to {widths[group.index]} channels: {why}."


def _check(graph: Structure, wide: Structure, widths: np.ndarray) -> None:
    """Make sure that the wide model has the same groups, at the widths that were asked for."""
    if len(wide.groups) != len(graph.groups) or (wide.full != widths).any():
        raise AutoslimError(
            f"Model {graph.model.name!r} can't be widened like this: its layers group the channels in "
            "another way at these widths. Choose a whole number as slim.headroom, or none."
        )
