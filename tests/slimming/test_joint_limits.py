"""Several budgets at once, against brute force over all networks; no network is run."""

import itertools
import json

import numpy as np
import pytest
from nets import graph

from autoslim.slimming import selection
from autoslim.slimming.budget import Budget
from autoslim.slimming.giving_back import budget_use, much_unused
from autoslim.slimming.levels import Levels
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory

IMAGES, BATCH = 32, 8


class Additive:
    """Stands for a scorer: a network's loss is a sum over its groups, of less worth the wider they are."""

    def __init__(self, made, levels, seed, noise=0.0):
        generator = np.random.default_rng(seed)
        self.graph, self.levels = made, levels
        self.worth = generator.uniform(0.2, 1.0, len(levels.widths))
        self.power = generator.uniform(0.3, 0.9, len(levels.widths))
        self.image, self.noise = generator.normal(0, 1, IMAGES), noise
        self.sizes, self.images, self.macs, self.scored = (BATCH,) * (IMAGES // BATCH), IMAGES, 0, 0

    def loss(self, widths):
        return 9 - (self.worth * (np.asarray(widths) / self.levels.largest) ** self.power).sum(-1)

    def score(self, batches_of, candidates, base=None):
        part = np.concatenate([np.arange(BATCH) + BATCH * batch for batch in batches_of])
        self.macs += int(self.graph.cost(candidates).flops.sum()) * len(part)
        self.scored += len(candidates) * len(part)
        own = [
            np.random.default_rng([*map(int, widths)]).normal(0, self.noise, IMAGES) for widths in candidates
        ]
        losses = self.loss(candidates)[:, None] + self.image + np.array(own)
        return losses[:, part].astype(np.float32), np.zeros((len(candidates), len(part)), np.float32)

    def __call__(self, candidates, base=None):
        return self.score(range(len(self.sizes)), candidates)

    def price(self, candidates, base=None):
        return self.graph.cost(candidates).flops * IMAGES, 0


@pytest.fixture(scope="module")
def made():
    return graph(widths=(16, 12, 16))


@pytest.fixture(scope="module")
def levels(made):
    return Levels.spaced(made, 6, 0.25, 2)


@pytest.fixture(scope="module")
def every(levels):
    """All networks: int32 [N, G]."""
    return np.array(list(itertools.product(*levels.widths)), np.int32)


BUDGETS = [
    (0.5, "flops", {}),
    (0.5, "params", {}),
    (0.6, "memory", {}),
    (0.5, "flops", {"params": 0.4}),
    (0.4, "flops", {"params": 0.6}),
    (0.9, "flops", {"memory": 0.6}),
    (0.5, "flops", {"memory": 0.7}),
    (1.0, "flops", {"params": 0.3}),
    (1.0, "flops", {"memory": 0.6, "params": 0.5}),
]


@pytest.mark.parametrize(("method", "part"), [("greedy", 0.05), ("sensitivity", 0.2)])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("target", "resource", "shares"), BUDGETS)
def test_close_to_the_best_by_brute_force(made, levels, every, method, part, seed, target, resource, shares):
    """Of what lies between the smallest network and the best that fits; sensitivity knows no costs."""
    limits = {name: share * getattr(made.cost(), name) for name, share in shares.items()}
    toy, budget = Additive(made, levels, seed), Budget(made, resource, limits=limits)
    path = search(made, levels, toy, method=method, target=target, resource=resource, limits=limits)
    found = np.array(path.at(target, limits).widths)
    assert budget.within(found, target)
    fits = every[budget.within(every, target)]
    best, worst = toy.loss(fits).min(), toy.loss(levels.smallest)
    assert toy.loss(found) - best <= part * (worst - best)
    _, wider = levels.one_wider(found)
    assert not budget.within(wider, target).any()


def test_a_step_saves_something_of_a_violated_budget(made, levels):
    """FLOPs are met at once and memory is not: no group is narrowed that is not live at the peak."""
    limits = {"memory": 0.6 * made.cost().memory}
    path = search(made, levels, Additive(made, levels, 0), target=0.99, limits=limits)
    for before, point in itertools.pairwise(path.points):
        now, then = (made.amounts("memory", np.array(p.widths)) for p in (before, point))
        over_flops = before.share > 0.99
        assert over_flops or ((now > limits["memory"]) & (then < now)).any()


def test_known_drops_are_weighed_by_the_budgets_that_are_violated_now(made, levels, monkeypatch):
    """Scoring all candidates in every step, or hardly ever, ends at about the same loss."""
    monkeypatch.setattr(selection, "AHEAD", 1)
    limits = {"params": 0.4 * made.cost().params}
    paths = [
        search(made, levels, Additive(made, levels, 3), target=0.6, limits=limits, search="exact", **how)
        for how in ({"lazy": False}, {"lazy": True, "refresh": 1}, {"lazy": True, "refresh": 1000})
    ]
    assert [p.widths for p in paths[0].points] == [p.widths for p in paths[1].points]
    assert paths[2].queue and paths[2].macs < paths[1].macs
    lost = [Additive(made, levels, 3).loss(path.at(0.6, limits).widths) for path in paths]
    assert lost[2] == pytest.approx(lost[0], rel=0.01)


@pytest.mark.parametrize("method", ["greedy", "sensitivity"])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(made, levels, method):
    limits, seen, known = {"params": 0.5 * made.cost().params}, [], {}
    settings = {"method": method, "target": [0.7, 0.5], "limits": limits}
    whole = search(
        made, levels, Additive(made, levels, 1, 0.1), **settings, on_point=seen.append, known=known
    )
    assert sum(len(w.points) for w in whole.widenings) > 1
    for path in seen[:-1] if method == "greedy" else seen[:1]:
        start = Trajectory.from_dict(json.loads(json.dumps(path.to_dict()))) if method == "greedy" else None
        part = dict(list(known.items())[: len(known) // 2])
        again = search(made, levels, Additive(made, levels, 1, 0.1), **settings, start=start, known=part)
        assert again == whole
    rows = [line.split(",") for line in whole.to_csv().splitlines()]
    kept = [(str(w.target), str(i)) for w in whole.widenings for i in range(1, len(w.points) + 1)]
    assert [(row[1], row[0]) for row in rows[len(whole.points) + 1 :]] == kept
    for widening in whole.widenings:
        before = whole.first_within(widening.target, limits)
        for point in widening.points:
            moved = np.array(point.widths) - before.widths
            assert moved[point.widened] > 0 and np.count_nonzero(moved) == 1 and point.group is None
            before = point
        assert whole.at(widening.target, limits) == before
    moves = sum(w.macs + sum(p.macs for p in w.points) for w in whole.widenings)
    assert whole.macs == moves + sum(p.macs for p in whole.points)


def test_what_hurts_is_not_given_back(made, levels):
    """A group that is worth less the wider it is stays narrow."""
    toy = Additive(made, levels, 0)
    toy.worth[1] = -1.0
    path = search(made, levels, toy, target=0.6)
    assert path.at(0.6).widths[1] == levels.smallest[1]


def test_why_a_budget_is_not_used_up(made, levels):
    limits = {"params": 0.3 * made.cost().params}
    path = search(made, levels, Additive(made, levels, 0), target=0.9, limits=limits)
    budget, found = Budget(made, limits=limits), np.array(path.at(0.9, limits).widths)
    flops, params = (use.line for use in budget_use(budget, levels, found, 0.9))
    assert flops.startswith("flops: 0.")
    assert flops.endswith("; the rest stays unused: every wider level goes over params")
    assert params.startswith("params: 0.") and "at most 0.300" in params and "unused" not in params
    (alone,) = budget_use(Budget(made), levels, made.full, 1.0)
    assert alone.line == "flops: 1.000 of the full network's, at most 1.000; every group has its full width"


def test_a_budget_that_is_left_unused_is_said(made):
    """One group has two widths, the others are narrow: the wider one costs a multiple."""
    widths = [(1,) if not group.frozen else (group.size,) for group in made.groups]
    widest = max(made.slimmable, key=lambda group: group.size).index
    widths[widest] = (1, made.groups[widest].size)
    levels, budget = Levels(tuple(widths)), Budget(made)
    share, wide = (float(budget.share(budget.cost(one))) for one in (levels.smallest, levels.largest))
    assert wide > 2 * share
    assert much_unused(budget_use(budget, levels, levels.smallest, 2 * share)) == (
        f"it has {share:.3f} of the full network's flops, 50 % of the {2 * share:.3f} that it may have: "
        "every wider level goes over flops."
    )
    assert much_unused(budget_use(budget, levels, levels.smallest, share)) == ""
    hurt = much_unused(budget_use(budget, levels, levels.smallest, 1.0))
    assert hurt.endswith("of the 1.000 that it may have: wider levels hurt on the held-out images.")
