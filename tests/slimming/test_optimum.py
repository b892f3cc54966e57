"""The best widths under budgets on all four resources at once, against brute force."""

import itertools

import numpy as np
import pytest
from nets import graph

from autoslim.resources import RESOURCES
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency_curve import curve_through
from autoslim.slimming.levels import Levels
from autoslim.slimming.optimum import Optimum


@pytest.fixture(scope="module")
def channels():
    return graph(widths=(24, 16, 24))


@pytest.fixture(scope="module")
def levels(channels):
    return Levels.spaced(channels, 5, 0.25, 1)


class Predicted:
    """A prediction of latency: a bent curve of a sum over layers, as a `LatencyModel` makes it."""

    def __init__(self, channels, levels):
        self.graph = channels
        ends = self.fitted(np.stack([levels.smallest, levels.uniform(0.5), levels.largest]))
        self._curve = curve_through(ends, np.array([1.0, 7.0, 8.0]))

    def __call__(self, widths):
        return self._curve(self.fitted(widths))

    def fitted(self, widths):
        return 1.0 + self.graph.cost(widths).flops / 1e4

    def fitted_at(self, latency):
        return float(self._curve.inverse(np.array(latency)))


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("target", [0.9, 0.6])
def test_the_best_of_all_networks_within_budgets_on_all_resources(channels, levels, resource, target):
    limits = {name: 0.8 for name in RESOURCES if name != resource}
    latency = Predicted(channels, levels)
    full = Budget(channels, "flops", latency=latency).full
    budget = Budget(
        channels, resource, latency=latency, limits={name: s * full.of(name) for name, s in limits.items()}
    )
    generator = np.random.default_rng(0)
    drops = [np.cumsum(generator.exponential(1, len(widths)))[::-1] for widths in levels.widths]
    every = np.array(list(itertools.product(*levels.widths)), np.int32)
    places = np.array(list(itertools.product(*(range(len(widths)) for widths in levels.widths))))
    worth = sum(drop[places[:, group]] for group, drop in enumerate(drops))
    best = worth[budget.within(every, target)].min()
    found = Optimum(budget, levels)(drops, target)
    assert budget.within(found, target)
    assert worth[(every == found).all(1)] == pytest.approx(best)
