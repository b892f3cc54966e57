"""How sure a choice was, on scores that are made up."""

import numpy as np
import pytest

from autoslim.slimming.trial import Criterion, Trial


class Scores:
    """Given per-image losses: candidate 0 first, the base last. Batches of ten images."""

    sizes = (10, 10, 10)

    def __init__(self, losses):
        self.losses = losses

    def score(self, batches, candidates, base=None):
        images = np.concatenate([np.arange(10 * b, 10 * b + 10) for b in batches])
        found = self.losses[candidates[:, 0]][:, images]
        return found, np.zeros_like(found)


def trial(losses, saved=None, **criterion):
    widths = np.arange(len(losses))[:, None]  # a network's width is its place among the losses
    amounts = np.ones(len(losses) - 1) if saved is None else np.array(saved)
    return Trial(Scores(losses), widths[-1], widths[:-1], amounts, Criterion(**criterion))


def losses():
    generator = np.random.default_rng(0)
    hard = generator.uniform(0.0, 5.0, 30)  # images differ far more than candidates do: only pairs tell
    return np.stack([hard + level + 0.1 * generator.normal(size=30) for level in (0.3, 0.2, 0.26, 0.0)])


def expected(scores, best, other):
    worse = scores[other] - scores[best]
    return worse.mean() / (worse.std(ddof=1) / np.sqrt(len(worse)))


def test_the_lead_is_over_the_candidate_that_is_told_apart_least():
    scores = losses()
    made = trial(scores)
    made.see([0, 1, 2], [0, 1, 2])
    assert made.lead(1) == pytest.approx(min(expected(scores, 1, 0), expected(scores, 1, 2)))
    assert made.lead(1) > 1 > 0 > made.lead(0)  # not the best: behind


def test_only_images_that_both_were_scored_on_count():
    scores = losses()
    made = trial(scores)
    made.see([0, 1], [0, 1, 2])
    made.see([2], [1])
    seen = scores[:, 10:20]
    assert made.lead(1) == pytest.approx(min(expected(scores, 1, 0), expected(seen, 1, 2)))


def test_what_a_step_saves_is_part_of_the_comparison():
    scores = losses()
    made = trial(scores, saved=[0.5, 0.1, 0.1], per_cost=True)
    made.see([0, 1, 2], [0, 1, 2])
    drops = (scores[:3] - scores[3]) / np.array([0.5, 0.1, 0.1])[:, None]
    assert made.lead(0) == pytest.approx(min(expected(drops, 0, 1), expected(drops, 0, 2)))


def test_no_other_candidate_or_no_difference_is_not_known():
    scores = losses()
    made = trial(scores[[0, 3]])
    made.see([0], [0])
    assert made.lead(0) is None
    same = trial(scores[[0, 0, 3]])
    same.see([0, 1], [0])
    assert same.lead(0) is None
