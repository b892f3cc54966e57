"""Exchanges after the greedy pass: within the budget, better on images that did not choose them."""

import csv
import io
import json

import numpy as np
import pytest
from nets import batches, graph

from autoslim.schema import SearchOptions
from autoslim.slimming import exchange
from autoslim.slimming.budget import Budget
from autoslim.slimming.exchange import exchanges
from autoslim.slimming.levels import Levels
from autoslim.slimming.problem import Problem
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Point, Trajectory

IMAGES, BATCH = 40, 10


class Toy:
    """Stands for a scorer: the loss of a network is a sum over its groups, plus noise an image."""

    def __init__(self, worth, noise, batch=BATCH):
        self.worth = np.array(worth, float)
        self.sizes = (batch,) * (IMAGES // batch)
        self.images, self.macs, self.scored = IMAGES, 0, 0
        generator = np.random.default_rng(0)
        self.image = generator.normal(0, 1, IMAGES)  # the same for every network
        self.noise = noise

    def score(self, batches_of, candidates, base=None):
        part = [batch * self.sizes[0] + i for batch in batches_of for i in range(self.sizes[0])]
        self.macs += len(candidates) * len(batches_of)
        self.scored += len(candidates) * len(part)
        own = np.stack([np.random.default_rng(w.astype(int)).normal(0, 1, IMAGES) for w in candidates])
        losses = 10 - (candidates * self.worth).sum(1)[:, None] + self.image + self.noise * own
        return losses[:, part].astype(np.float32), np.zeros((len(candidates), len(part)), np.float32)

    def __call__(self, candidates, base=None):
        return self.score(range(len(self.sizes)), candidates, base)

    def price(self, candidates, base=None):
        return np.full(len(candidates), len(self.sizes)), 0

    def mean(self, widths):
        return self.score(range(len(self.sizes)), np.array([widths]))[0].mean(dtype=np.float64)


@pytest.fixture(scope="module")
def made():
    return graph()


@pytest.fixture(scope="module")
def levels(made):
    return Levels.spaced(made, 4, 0.25, 2)


def begun(made, budget, widths):
    """A path whose only point beside the full network is at `widths`, within half of the FLOPs."""
    point = [
        Point(tuple(int(x) for x in w), None, c, budget.share(c), 1, 0, 0, 1)
        for w in (made.full, np.array(widths, np.int32))
        for c in [budget.cost(w)]
    ]
    full = budget.full
    names = tuple(group.name for group in made.groups)
    return Trajectory(names, "flops", full, IMAGES, tuple(point))


def exchanged(made, levels, scorer, moves=9, target=0.5, start=None):
    budget, options = Budget(made), SearchOptions(target=target, exchange=moves)
    path = start or begun(made, budget, [2, 4, 4, 4, 6, 3])
    return list(exchanges(Problem(budget, levels, scorer, options), path))


@pytest.mark.parametrize("batch", [BATCH, IMAGES], ids=["batches", "one batch"])
def test_exchanges_find_what_greed_left(made, levels, batch):
    """conv1 is worth most, conv3 nothing: exchanges move channels from the one to the other, and stop."""
    scorer = Toy([0, 0.5, 0.1, -0.01, 0.0, 0], 0.1, batch)
    paths = exchanged(made, levels, scorer)
    last = paths[-1].exchange(0.5)
    assert last.done and len(last.points) == len(paths) - 1 >= 2
    before = [2, 4, 4, 4, 6, 3]
    for point in last.points:
        moved = np.array(point.widths) - before
        assert moved[point.widened] > 0 > moved[point.group] and np.count_nonzero(moved) == 2
        assert point.share <= 0.5 and point.share == Budget(made).share(made.cost(np.array(point.widths)))
        assert scorer.mean(point.widths) < scorer.mean(before)
        assert point.loss == pytest.approx(scorer.mean(point.widths), rel=1e-6) and point.images == IMAGES
        assert point.macs > 0 and point.scored > 0
        before = point.widths
    assert last.points[-1].widths[1] == 8 and last.macs > 0
    assert paths[-1].at(0.5) == last.points[-1] and paths[-1].at(1.0) == paths[-1].points[0]


def test_noise_alone_is_no_reason(made, levels):
    """Nothing is worth anything: by luck alone some pair looks better, and is not kept."""
    paths = exchanged(made, levels, Toy([0] * 6, 1.0))
    assert len(paths) == 1 and paths[0].exchange(0.5).points == () and paths[0].exchange(0.5).done
    assert paths[0].at(0.5) == paths[0].points[1]


def test_so_many_and_no_more(made, levels):
    worth = [0, 0.5, 0.1, -0.01, 0.0, 0]
    whole = exchanged(made, levels, Toy(worth, 0.1))
    assert exchanged(made, levels, Toy(worth, 0.1), moves=0) == []
    one = exchanged(made, levels, Toy(worth, 0.1), moves=1)
    assert one == whole[:1] and not one[0].exchange(0.5).done
    for path in whole[:-1]:  # stopped after each exchange, and started again
        again = Trajectory.from_dict(json.loads(json.dumps(path.to_dict())))
        assert exchanged(made, levels, Toy(worth, 0.1), start=again)[-1] == whole[-1]
    assert exchanged(made, levels, Toy(worth, 0.1), start=whole[-1]) == []


def test_no_exchange_fits(made, levels):
    """At the smallest widths there is nothing to give."""
    smallest = begun(made, Budget(made), levels.smallest)
    share = smallest.points[1].share
    (path,) = exchanged(made, levels, Toy([1] * 6, 0.0), target=share, start=smallest)
    assert path.exchange(share).done and path.exchange(share).points == ()


@pytest.mark.slow
def test_after_a_search(monkeypatch):
    """From a bad network: budgets hold, the held-out score gets no worse, a CSV shows it."""
    made = graph(widths=(16, 12, 16))
    logits = made.model.get_layer("logits")
    logits.kernel.assign(8 * np.array(logits.kernel))
    levels, budget = Levels.spaced(made, 4, 0.25, 2), Budget(made)
    held_out = list(batches(48, 8, seed=5))
    scorer, generator = Scorer(made, held_out), np.random.default_rng(0)
    drawn = np.stack([levels.random(generator) for _ in range(60)])
    drawn = drawn[budget.within(drawn, 0.5)]
    worst = drawn[scorer(drawn)[0].mean(1).argmax()]
    start = search(made, levels, held_out, target=[1.0])
    start = start.then(begun(made, budget, worst).points[1])
    settings = {"target": [0.5], "exchange": 3}
    monkeypatch.setattr(exchange, "CHANCE", 0.4)
    seen = []
    found = search(made, levels, held_out, **settings, start=start, on_point=seen.append)
    assert found.points == start.points and found.exchanged(0.5, 3)
    points = [start.points[-1], *found.exchange(0.5).points]
    losses = [scorer(np.array([p.widths], np.int32))[0].mean(dtype=np.float64) for p in points]
    assert len(points) > 1 and losses == sorted(losses, reverse=True)
    assert found.at(0.5) == points[-1] and all(p.share <= 0.5 for p in points)
    assert found.macs > start.macs
    for path in seen[:-1]:
        assert search(made, levels, held_out, **settings, start=path) == found
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    kept = [(e.target, i, p) for e in found.exchanges for i, p in enumerate(e.points, 1)]
    before = len(found.points) + sum(len(w.points) for w in found.widenings)
    assert len(rows) == before + len(kept)
    for row, (target, step, point) in zip(rows[before:], kept, strict=True):
        assert (float(row["exchange"]), int(row["step"])) == (target, step)
        assert row["widened"] == found.groups[point.widened] and row["group"] == found.groups[point.group]
        assert float(row["loss"]) == point.loss
    assert all(row["exchange"] == "" for row in rows[:before])
    assert all(row["widened"] == "" for row in rows[: len(found.points)])


def test_nothing_is_kept_on_the_word_of_one_image(made, levels):
    """Each half of two images is one: there is no spread to judge by."""
    toy = Toy([1, 5, 1, 1, 1, 1], noise=0.01)
    toy.sizes, toy.images = (2,), 2
    *_, last = exchanged(made, levels, toy, moves=3)
    (tried,) = last.exchanges
    assert tried.done and not tried.points
