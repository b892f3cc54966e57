"""Candidates between the network found and the uniform one, all within the budget and tight."""

import numpy as np
import pytest
from nets import graph

from autoslim.slimming.budget import Budget
from autoslim.slimming.finalists import candidates
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_widths


@pytest.mark.parametrize("limit", [1.0, 0.4])
def test_all_meet_the_budget_and_lie_between_the_two_ends(limit):
    made = graph(widths=(16, 16, 16))
    levels = Levels.spaced(made, 8, 0.125, 2)
    budget = Budget(made, limits={"params": limit * made.cost().params})
    even = uniform_widths(budget, levels, 0.5)
    found = next(
        widths
        for widths in (levels.random(np.random.default_rng(seed)) for seed in range(1000))
        if budget.within(widths, 0.5) and budget.share(budget.cost(widths)) > 0.3
    )
    every = candidates(budget, levels, found, even, 0.5, 5)
    assert 3 <= len(every) <= 5 and len({tuple(w) for w in every}) == len(every)
    assert budget.within(every, 0.5).all()
    assert every[0].tolist() == found.tolist() and every[-1].tolist() == even.tolist()
    far = np.abs(every[1:-1] - found).sum(1)
    assert (np.diff(far) >= -2).all()  # further from the one found, one after another
    for widths in every[1:-1]:
        _, wider = levels.one_wider(widths)
        assert not np.any(budget.within(wider, 0.5))


def test_the_same_network_twice_is_one_candidate():
    made = graph(widths=(16, 16, 16))
    levels, budget = Levels.spaced(made, 8, 0.125, 2), Budget(made)
    even = levels.uniform(0.5)
    assert len(candidates(budget, levels, even, even, 0.9, 2)) == 1
