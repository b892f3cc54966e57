"""Which networks are measured: the same ones each time for the same network, levels and target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autoslim.slimming.levels import Levels

FIRST = 44  # networks of the first fit
RATIOS = (0.375, 0.5, 0.625, 0.75, 0.875)  # of the uniform ones among them
DRAWN = 2000  # networks from which those near a target are taken
DEVIATION = 0.3  # of a group's level from the network's, as a share of the levels
BAND = 0.06  # how far from a target is near, as a share of it


def first_networks(levels: Levels) -> list[np.ndarray]:
    """The full, the smallest, uniform and random networks, all different: int32 [G] each, at most `FIRST`.

    Half of the random ones take each group's level evenly; half of them around a level of their own, so that
    narrow and wide networks are among them.
    """
    generator = np.random.default_rng(0)
    networks = [levels.largest, levels.smallest, *(levels.uniform(ratio) for ratio in RATIOS)]
    for number in range(10 * FIRST):  # small networks may have fewer different ones
        if len(networks) >= FIRST:
            break
        networks.append(levels.random(generator) if number % 2 else _around(levels, generator))
        networks = list({tuple(network): network for network in networks}.values())
    return networks


def networks_near(
    levels: Levels, share: Callable[[np.ndarray], Any], target: float, count: int, number: int
) -> list[np.ndarray]:
    """Networks whose predicted share of the full network's latency is near the target: int32 [G] each.

    Args:
        levels: of the widths.
        share: widths int [N, G] -> predicted shares [N].
        target: a share.
        count: of the networks, at most; the uniform one nearest to the target is the first.
        number: of the round, which draws others than those before it.
    """
    generator = np.random.default_rng([1 + number, round(1e6 * target)])
    drawn = np.array([_around(levels, generator) for _ in range(DRAWN)])
    near = drawn[np.abs(share(drawn) / target - 1) <= BAND]
    even = np.array([levels.uniform(ratio) for ratio in np.linspace(0, 1, 201)])
    closest = even[np.argmin(np.abs(share(even) - target))]
    if abs(float(share(closest[None])[0]) / target - 1) <= 3 * BAND:
        near = np.concatenate([closest[None], near])
    return list({tuple(network): network for network in near}.values())[:count]


def _around(levels: Levels, generator: np.random.Generator) -> np.ndarray:
    """Every group at a level around one level of all: int32 [G]."""
    centre = generator.uniform()
    places = centre + DEVIATION * generator.standard_normal(len(levels.widths))
    return np.array(
        [
            w[round(float(np.clip(p, 0, 1)) * (len(w) - 1))]
            for w, p in zip(levels.widths, places, strict=True)
        ],
        np.int32,
    )
