"""The additive predictor recovers a constructed additive truth, and says how far it can be believed."""

import numpy as np
import pytest

from autoslim.errors import AutoslimError
from autoslim.slimming.levels import Levels
from autoslim.slimming.predictor import fit_predictor, sampled_places

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
