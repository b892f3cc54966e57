"""How a step decides, on constructed per-image scores whose order is known; no network."""

import numpy as np
import pytest

from autoslim.slimming.selection import doubt, everything, halving, refreshed


class Scores:
    """Badness [K, images] in batches, which remembers what it was asked for."""

    def __init__(self, values, batch=10):
        self.values = np.asarray(values, float)
        self.batch, self.batches = batch, self.values.shape[1] // batch
        self.asked = set()

    def __call__(self, candidates, batches):
        self.asked |= {(int(k), b) for k in candidates for b in batches}
        parts = [self.values[candidates][:, b * self.batch : (b + 1) * self.batch] for b in batches]
        return np.concatenate(parts, 1)

    @property
    def share(self):
        return len(self.asked) / len(self.values) / self.batches


def noisy(means, images, noise, generator):
    """Candidates that are good and bad on the same images, and each has noise of its own."""
    common = generator.gamma(1.0, 1.0, images)
    return np.array(means)[:, None] + common + noise * generator.standard_t(5, (len(means), images))


def test_a_single_image_proves_nothing():
    assert doubt(np.array([[-5.0], [0.0]]), 0.05, np.zeros(2)).tolist() == [np.inf, np.inf]


def test_halving():
    scores = Scores(noisy(np.arange(9) / 2, 160, 0.1, np.random.default_rng(4)))
    assert halving(scores, np.arange(9), range(16), np.zeros(9), 2) == 0
    seen = [max(b for k, b in scores.asked if k == candidate) + 1 for candidate in range(9)]
    assert seen == [16, 16, 8, 4, 4, 2, 2, 2, 2]
    one = Scores(scores.values[:1])
    assert halving(one, np.arange(1), range(16), np.zeros(1), 4) == 0 and len(one.asked) == 4


def test_halving_among_some_of_the_candidates():
    scores = Scores(noisy(np.arange(9) / 2, 160, 0.1, np.random.default_rng(4)))
    assert halving(scores, np.array([3, 5, 8]), range(16), np.zeros(9), 1) == 3
    assert {k for k, _ in scores.asked} == {3, 5, 8}


def test_halving_finds_the_best_when_noise_is_small():
    generator = np.random.default_rng(5)
    for _ in range(100):
        means = generator.permutation(12) / 10
        scores = Scores(noisy(means, 160, 0.02, generator))
        assert halving(scores, np.arange(12), range(16), np.zeros(12), 1) == means.argmin()
        assert scores.share < 0.35


@pytest.mark.parametrize("choose", [everything, lambda *a: halving(*a, 1), lambda *a: halving(*a, 4)])
def test_ties_go_to_what_costs_least_then_to_the_first(choose):
    scores = Scores(np.tile(np.random.default_rng(6).normal(size=40), (5, 1)))
    assert choose(scores, np.arange(5), [2, 3, 0, 1], np.array([3.0, 2.0, 1.0, 1.0, 2.0])) == 2
    assert choose(scores, np.arange(5), [2, 3, 0, 1], np.zeros(5)) == 0
    scores.values[4] -= 1e-9
    assert choose(scores, np.arange(5), [2, 3, 0, 1], np.zeros(5)) == 4


class Drops:
    def __init__(self, now):
        self.now, self.asked = np.array(now), []

    def __call__(self, chosen):
        self.asked += [int(k) for k in chosen]
        return self.now[chosen]


def test_lazy_refreshes_the_head_until_it_stays():
    drops = Drops([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    known = np.arange(10.0)  # the first rose from 0 to 5; the head of the queue is refreshed in fours
    assert list(refreshed(drops, known, np.zeros(10))) == [0, 1, 2, 3]
    assert drops.asked == [0, 1, 2, 3]
    assert list(refreshed(Drops(drops.now + 4.5), known, np.zeros(10))) == list(range(8))


def test_lazy_refreshes_what_it_does_not_know():
    drops = Drops(np.arange(6.0))
    known = np.array([np.nan, 9.0, 9.0, np.nan, 9.0, 9.0])
    assert list(refreshed(drops, known, np.zeros(6))) == [0, 3]
    assert list(refreshed(drops, np.full(6, np.nan), np.zeros(6))) == [0, 1, 2, 3, 4, 5]
    assert known[1] == 9.0 and np.isnan(known[0])
