"""The sandwich rule (Yu & Huang 2019, "Universally Slimmable Networks"): the widths that a step trains."""

from __future__ import annotations

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels


def arm_names(arms: int) -> tuple[str, ...]:
    """Names of the arms of a step, in their order.

    >>> arm_names(4)
    ('largest', 'smallest', 'random1', 'random2')

    Raises:
        AutoslimError: for less than two.
    """
    if arms < 2:
        raise AutoslimError(f"arms={arms}: expected at least 2, the largest and the smallest.")
    return ("largest", "smallest", *(f"random{i}" for i in range(1, arms - 1)))


def draw_arms(levels: Levels, arms: int, seed: int, step: int) -> np.ndarray:
    """Widths of a step's arms: the largest, the smallest and `arms - 2` random ones.

    A function of (seed, step) alone, so that all replicas agree and a resumed run draws the same.

    Args:
        levels: the widths that each group may take.
        arms: number of arms, at least 2.
        seed: of the run.
        step: of the training.

    Returns:
        int32 [arms, G], the largest first.
    """
    generator = np.random.default_rng([seed, step])
    random = [levels.random(generator) for _ in range(arms - 2)]
    return np.stack([levels.largest, levels.smallest, *random])


def arms_cost(graph: ChannelGraph, arms: np.ndarray) -> float:
    """The least that a step with these arms, int32 [arms, G], costs in full-width steps: FLOPs over FLOPs."""
    return float(np.sum(graph.cost(arms).flops) / graph.cost().flops)
