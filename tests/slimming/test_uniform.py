"""Uniform widths: on the divisor's grid, near one ratio, as tight as the grid allows."""

import itertools
import math

import numpy as np
import pytest
from nets import CLASSES, graph, network

from autoslim import archs
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_path, uniform_widths

TARGETS = np.linspace(0.1, 1.0, 13)


NETWORKS = {
    "plain": lambda: network((20, 12, 23)),
    "resnet8": lambda: archs.resnet((8, 8, 3), 4, 8, 8),
    "mobilenet_v2": lambda: archs.mobilenet_v2((8, 8, 3), 4, 0.25),
}


@pytest.fixture(
    scope="module", params=["plain", "resnet8", pytest.param("mobilenet_v2", marks=pytest.mark.long)]
)
def made(request):
    return ChannelGraph(NETWORKS[request.param]())


@pytest.mark.parametrize("divisor", [1, 4, 8])
@pytest.mark.parametrize(("resource", "limits"), [("flops", {}), ("memory", {}), ("flops", {"params": 0.5})])
def test_on_the_grid_monotone_within_and_tight(made, divisor, resource, limits):
    limits = {name: share * getattr(made.cost(), name) for name, share in limits.items()}
    levels, budget = Levels.spaced(made, 8, 0.25, divisor), Budget(made, resource, limits=limits)
    before, sizes = None, made.full
    for target in TARGETS:
        try:
            widths = uniform_widths(budget, levels, target)
        except AutoslimError:
            assert before is None  # only the smallest targets are out of reach
            continue
        assert budget.within(widths, target)
        steps = np.array([math.lcm(divisor, group.unit) for group in made.groups])
        assert ((widths % steps == 0) | (widths == sizes)).all()
        # One ratio serves all: each group is near it, or at its smallest level.
        free = np.array([not group.frozen for group in made.groups]) & (widths < sizes)
        free &= widths > levels.smallest
        if free.any():
            low = ((widths - 1.5 * steps) / sizes)[free].max()  # half of it rounding, a whole one filling
            high = ((widths + 1.5 * steps) / sizes)[free].min()
            assert low <= high
        if before is not None:  # but for one multiple that fills what rounding leaves
            assert (widths >= before - steps).all()
        before = widths
    assert (before == (sizes if not limits else before)).all()


def test_the_next_step_does_not_fit(made):
    budget, levels = Budget(made), Levels.spaced(made, 8, 0.25, 4)
    path = uniform_path(budget, levels)
    assert (path[-1] == made.full).all()
    for one, other in itertools.pairwise(path):
        assert (other - one >= 0).all() and np.count_nonzero(other - one) == 1
    for target in (0.3, 0.5, 0.8):
        found = uniform_widths(budget, levels, target)
        last = [widths for widths in path if budget.within(widths, target)][-1]
        assert (found >= last).all() and budget.within(found, target)
        for group in range(len(found)):  # each group that is at the path's own width, at its next one
            further = next((w[group] for w in path if w[group] > last[group]), None)
            if found[group] == last[group] and further is not None:
                wider = found.copy()
                wider[group] = further
                assert not budget.within(wider, target)


def test_without_a_divisor_it_is_the_plain_ratio():
    """Against a scan over ratios: the widest rounded network, or one channel wider in some groups."""
    made = ChannelGraph(network((16, 12, 20)))
    budget, levels = Budget(made), Levels.spaced(made, 8, 0.05, 1)
    for target in (0.3, 0.5, 0.7):
        found = uniform_widths(budget, levels, target)
        scanned = [
            [2, *(max(1, round(ratio * size)) for size in (16, 12, 20, 8)), CLASSES]
            for ratio in np.linspace(0, 1, 2001)
        ]
        plain = np.array([w for w in scanned if budget.within(np.array(w), target)][-1])
        assert ((found - plain >= 0) & (found - plain <= 1)).all()


def test_no_group_is_below_its_smallest_level_unless_it_must(made):
    budget, levels = Budget(made), Levels.spaced(made, 4, 0.3, 4)
    least = budget.share(budget.cost(levels.smallest))
    assert (uniform_widths(budget, levels, least) >= levels.smallest).all()
    assert (uniform_widths(budget, levels, 0.9 * least) < levels.smallest).any()


def test_out_of_reach():
    made = graph()
    with pytest.raises(
        AutoslimError,
        match="Cannot reach flops <= 1e-06 uniformly: with the smallest multiple of slim.divisor=2 in every",
    ):
        uniform_widths(Budget(made), Levels.spaced(made, 4, 0.25, 2), 1e-6)
