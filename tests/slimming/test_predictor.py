"""The additive predictor recovers a constructed additive truth, and says how far it can be believed."""

import itertools

import numpy as np
import pytest
from nets import graph

from autoslim.errors import AutoslimError
from autoslim.slimming.levels import Levels
from autoslim.slimming.predictor import fit_predictor, sampled_places
from autoslim.slimming.search import search

LEVELS = Levels(((2, 4, 6, 8), (8,), (4, 8, 16), (1, 2, 3, 4, 5)))
SIZES = [len(widths) for widths in LEVELS.widths]
TRUTH = (np.array([0.9, 0.4, 0.1, 0.0]), np.zeros(1), np.array([0.3, 0.25, 0.0]), np.linspace(0.2, 0, 5))


def networks(count, seed=0):
    draws = sampled_places(LEVELS, seed)
    return np.stack([next(draws) for _ in range(count)])


def true_drops(places):
    return sum(table[places[:, group]] for group, table in enumerate(TRUTH))


def test_an_additive_truth_is_recovered():
    places = networks(200)
    found = fit_predictor(LEVELS, places, true_drops(places))
    fresh = np.random.default_rng(7).integers(0, SIZES, (100, 4))
    np.testing.assert_allclose(found(fresh), true_drops(fresh), atol=2e-3)
    assert found.error < 2e-3 and found.correlation > 0.99 and found.networks == 200


def test_noise_is_averaged_away_and_the_error_is_that_of_networks_left_out():
    places = networks(300)
    noise = np.random.default_rng(3).normal(0, 0.1, len(places))
    found = fit_predictor(LEVELS, places, true_drops(places) + noise)
    fresh = np.random.default_rng(8).integers(0, SIZES, (200, 4))
    assert np.sqrt(np.mean((found(fresh) - true_drops(fresh)) ** 2)) < 0.04  # of a noise of 0.1
    assert 0.09 < found.error < 0.12


def test_what_all_drops_have_in_common_says_nothing_of_the_widths():
    """As where the full network's own score, from which all drops are counted, is far off."""
    places = networks(200)
    found = fit_predictor(LEVELS, places, true_drops(places) + 0.5)
    np.testing.assert_allclose(np.concatenate(found.drops), np.concatenate(TRUTH), atol=2e-3)
    assert found.error < 2e-3


def test_losses_that_rise_ever_faster_are_told_from_others():
    """Noise hardly moves the first steps down, where nothing is lost yet, unless losses fall and rise."""
    levels = Levels(((1, 2, 3, 4),) * 6)
    draws = sampled_places(levels, 1)
    places = np.stack([next(draws) for _ in range(300)])
    noise = np.random.default_rng(2).normal(0, 0.1, len(places))
    convex, concave = np.array([0.3, 0.1, 0.02, 0.0]), np.array([0.3, 0.28, 0.2, 0.0])
    for table, growing in ((convex, True), (concave, False)):
        found = fit_predictor(levels, places, table[places].sum(1) + noise)
        steps = -np.diff(found.drops, axis=1)
        assert bool((np.diff(steps, axis=1) <= 1e-9).all()) == growing
        assert np.abs(np.array(found.drops) - table).max() < 0.06


def test_narrower_is_never_predicted_to_be_better():
    places = networks(60)
    drops = np.random.default_rng(5).normal(0, 1, len(places))  # nothing but noise
    found = fit_predictor(LEVELS, places, drops)
    for table in found.drops:
        assert table[-1] == 0 and (np.diff(table) <= 0).all()


def test_too_few_networks_or_infinite_losses_are_refused():
    places = networks(30)
    with pytest.raises(AutoslimError, match="at least 20 networks with finite losses; got 10, 0 of them"):
        fit_predictor(LEVELS, places[:10], true_drops(places[:10]))
    drops = true_drops(places)
    drops[4] = np.nan
    with pytest.raises(AutoslimError, match="got 30, 1 of them not finite"):
        fit_predictor(LEVELS, places, drops)


def test_samples_are_a_function_of_the_seed_and_hold_narrow_and_wide_networks():
    np.testing.assert_array_equal(networks(50, 1), networks(50, 1))
    assert (networks(50, 1) != networks(50, 2)).any()
    means = (networks(400) / np.maximum(np.array(SIZES) - 1, 1)).sum(1) / 3
    assert means.min() < 0.1 and means.max() > 0.9


class AdditiveScores:
    """Held-out scores that are a sum over groups of functions of the width, the same on every image."""

    def __init__(self, graph, levels, drops):
        self._graph, self._levels, self._drops = graph, levels, drops
        self.sizes, self.images, self.macs, self.scored = (8,), 8, 0, 0

    def losses(self, candidates):
        places = [
            [w.index(int(x)) for w, x in zip(self._levels.widths, row, strict=True)] for row in candidates
        ]
        return 1.0 + sum(table[np.array(places)[:, group]] for group, table in enumerate(self._drops))

    def __call__(self, candidates, base=None):
        losses = np.repeat(self.losses(candidates)[:, None], self.images, 1).astype(np.float32)
        return losses, np.zeros_like(losses)

    def score(self, batches, candidates, base=None):
        return self(candidates, base)

    def price(self, candidates, base=None):
        return self._graph.cost(candidates).flops * self.images, 0


@pytest.mark.parametrize("seed", range(4))
def test_the_method_finds_the_best_of_all_networks_under_joint_limits(seed):
    big = graph(widths=(8, 6, 8), seed=seed)
    levels = Levels.spaced(big, 4, 0.25, 1)
    generator = np.random.default_rng(seed)
    drops = tuple(
        np.append(np.sort(generator.exponential(0.3, len(w) - 1))[::-1], 0.0) for w in levels.widths
    )
    scores, full = AdditiveScores(big, levels, drops), big.cost()
    every = np.array(list(itertools.product(*levels.widths)), np.int32)
    cost = big.cost(every)
    for limits in ({}, {"params": 0.6 * full.params}, {"params": 0.7 * full.params, "memory": 2200.0}):
        within = cost.flops <= 0.5 * full.flops
        for name, amount in limits.items():
            within &= getattr(cost, name) <= amount
        assert within.any()
        path = search(
            big,
            levels,
            scores,
            method="predictor",
            target=0.5,
            limits=limits,
            passes=60,
            seed=seed,
            trust=0.0,
        )
        found = np.array(path.at(0.5, limits).widths, np.int32)
        best = scores.losses(every[within]).min()
        assert scores.losses(found[None])[0] <= best + 0.01


def test_live_memory_is_linear_and_its_largest_is_the_peak():
    big = graph()
    widths = np.stack([big.full, big.uniform(0.5)])
    live = big.amounts("memory", widths)
    np.testing.assert_array_equal(live.max(-1), big.cost(widths).memory)
    steps = np.stack([big.full - k * (big.full > 4) * [not g.frozen for g in big.groups] for k in range(3)])
    rows = big.amounts("memory", steps)
    np.testing.assert_array_equal(rows[0] - rows[1], rows[1] - rows[2])
