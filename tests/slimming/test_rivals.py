"""The rival methods against brute force: their budgets, their spending, and how they go on after a stop."""

import itertools

import numpy as np
import pytest
from nets import batches, graph

from autoslim.errors import AutoslimError
from autoslim.kinds import METHODS
from autoslim.schema import SearchOptions
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import Score
from autoslim.slimming.problem import Problem
from autoslim.slimming.rivals.evolution import crossover, mutation
from autoslim.slimming.rivals.pool import fitted
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search

RIVALS = sorted(set(METHODS) - {"greedy"})
OWN = {
    "random": {"seed": 3, "passes": 12},
    "evolution": {"seed": 3, "passes": 12},
    "predictor": {"seed": 3, "passes": 30},
}
TARGETS = (0.7, 0.4)


@pytest.fixture(scope="module")
def big():
    return graph()


@pytest.fixture(scope="module")
def levels(big):
    """Many widths: random networks do not run out."""
    return Levels.spaced(big, 8, 0.125, 1)


@pytest.fixture(scope="module")
def few(big):
    """So few that all networks can be tried."""
    return Levels.spaced(big, 4, 0.25, 2)


def holdout():
    return batches(20, 10, seed=5)


@pytest.fixture(scope="module")
def scorer(big):
    """One scorer serves all tests: tracing takes longer than the rest."""
    return Scorer(big, holdout())


class Written(dict):
    """Scores that are known; `new` are those that were put in later, in order."""

    def __init__(self, *known):
        super().__init__(*known)
        self.new = {}

    def __setitem__(self, widths, score):
        super().__setitem__(widths, score)
        self.new[widths] = score


@pytest.fixture(scope="module")
def found(scorer):
    """A trajectory, and the networks that were scored: widths -> score, in order."""

    def find(method, big, levels, known=(), **kwargs):
        written = Written(known)
        given = {"target": TARGETS, **OWN.get(method, {}), **kwargs}
        return search(big, levels, scorer, method=method, known=written, **given), written.new

    return find


class Toy:
    """A score that is a function of the widths, the same for every image; counts its calls."""

    images, sizes, macs, scored = 4, (4,), 0, 0

    def __init__(self, loss, made):
        self.loss, self.graph, self.calls = loss, made, 0

    def price(self, candidates, base=None):
        return self.graph.cost(candidates).flops * self.images, 0

    def __call__(self, candidates, base=None):
        self.calls += len(candidates)
        losses = np.array([[self.loss(widths)] * self.images for widths in candidates], np.float32)
        return losses, np.exp(-losses)

    def score(self, batches_of, candidates, base=None):
        raise NotImplementedError


def followed(method, toy, levels, **options):
    """A method's trajectory by the scores of a toy."""
    return search(toy.graph, levels, toy, method=method, **options)


# -- what all have in common ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_target_is_served(big, levels, method, found):
    trajectory, _ = found(method, big, levels)
    assert trajectory.points[0].widths == tuple(levels.largest) and trajectory.points[0].share == 1.0
    assert trajectory.points[0].macs == 20 * big.cost().flops
    shares = [point.share for point in trajectory.points]
    assert shares == sorted(set(shares), reverse=True)
    for target in TARGETS:
        point = trajectory.at(target)
        cost = big.cost(np.array(point.widths))
        assert point.share <= target and point.share == cost.flops / big.cost().flops
        assert point.cost == cost


@pytest.mark.parametrize("resource, limits", [("params", {}), ("memory", {}), ("flops", {"params": 700})])
@pytest.mark.parametrize("method", RIVALS)
def test_other_budgets(big, levels, method, resource, limits, found):
    trajectory, _ = found(
        method, big, levels, target=(0.75,), resource=resource, limits=limits, score="metric"
    )
    point = trajectory.at(0.75, limits)
    assert Budget(big, resource, limits=limits).within(np.array(point.widths), 0.75)


@pytest.mark.parametrize("method", RIVALS)
def test_the_same_again_and_after_any_stop(big, levels, method, found):
    whole, scored = found(method, big, levels)
    assert found(method, big, levels)[0] == whole
    known = len(scored) // 2
    again, anew = found(method, big, levels, known=dict(itertools.islice(scored.items(), known)))
    assert again == whole
    assert list(anew) == list(scored)[known:]


@pytest.mark.parametrize("method", RIVALS)
def test_every_point_is_scored_as_the_search_scores(big, levels, method, found):
    """By the greedy search's own scorer, called here for each point alone."""
    trajectory, _ = found(method, big, levels)
    own = Scorer(big, holdout())
    for point in trajectory.points:
        losses, right = own(np.array([point.widths], np.int32))
        assert point.loss == losses[0].mean(dtype=np.float64) and point.metric == right[0].mean()
        assert point.loss_error == pytest.approx(losses[0].std(ddof=1) / np.sqrt(20), rel=1e-5)


@pytest.mark.parametrize("method", RIVALS)
def test_spending_is_what_the_scorer_spent(big, levels, method, scorer, found):
    """The scorer counts what it runs; whole networks, each once, are no more than that."""
    macs, images = scorer.macs, scorer.scored
    trajectory, scored = found(method, big, levels)
    spent = trajectory.macs
    assert spent == scorer.macs - macs
    points = [*trajectory.points, *(point for w in trajectory.widenings for point in w.points)]
    assert sum(point.scored for point in points) == scorer.scored - images
    whole = sum(20 * big.cost(np.array(widths)).flops for widths in scored)
    whole += 3 * 20 * big.cost().flops if method == "taylor" else 0  # its pass forward and backward
    assert spent < whole if method == "sensitivity" else spent == whole


def test_a_stop_does_not_change_the_bill(big, levels, found):
    """One network at a time may be lacking of those that share a run of the full network."""
    whole, scored = found("sensitivity", big, levels)
    for lacking in list(scored)[1:4]:
        known = {widths: score for widths, score in scored.items() if widths != lacking}
        again, anew = found("sensitivity", big, levels, known=known)
        assert again == whole and list(anew) == [lacking]


@pytest.mark.parametrize("method", RIVALS)
def test_the_whole_network_serves_a_target_of_one(big, levels, method, found):
    trajectory, scored = found(method, big, levels, target=(1.0,))
    assert len(trajectory.points) == len(scored) == 1


def test_mistakes(big, levels, found):
    with pytest.raises(
        AutoslimError, match=r"^slim.passes=2.0 is out of range: at least 3, one for the full network"
    ):
        found("random", big, levels, passes=2)
    with pytest.raises(AutoslimError, match=r"^unknown slim.score 'auc'. There are: loss, metric\.$"):
        found("uniform", big, levels, score="auc")
    with pytest.raises(AutoslimError, match=r"^slim.target=1.2 is outside \(0, 1\]: it is the share of"):
        found("sensitivity", big, levels, target=(0.5, 1.2))
    with pytest.raises(
        AutoslimError, match=r"^Cannot reach flops <= 0\.01: with every group at its smallest"
    ):
        found("evolution", big, levels, target=(0.01,))
    with pytest.raises(AutoslimError, match=r"^Cannot reach flops <= 0\.001 uniformly: "):
        found("uniform", big, levels, target=(0.001,))


def test_a_full_network_that_is_not_finite(big, levels):
    with pytest.raises(AutoslimError, match=r"^The full network's loss on the held-out images is NaN or inf"):
        followed("sensitivity", Toy(lambda widths: np.nan, big), levels, target=TARGETS)


# -- uniform --------------------------------------------------------------------------------------------


def test_uniform_is_the_widest_uniform_network(big, levels, found):
    trajectory, _ = found("uniform", big, levels)
    expected = [tuple(uniform_widths(Budget(big), levels, target)) for target in TARGETS]
    assert [point.widths for point in trajectory.points[1:]] == expected


# -- random and evolution -------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", [3, 3.5, 7, 12])
@pytest.mark.parametrize("method", ["random", "evolution"])
def test_no_more_passes_than_granted(big, levels, method, passes, found):
    trajectory, scored = found(method, big, levels, passes=passes)
    assert passes - 1.0 < trajectory.passes <= passes  # what is left pays for no other network
    assert len(scored) > len(TARGETS)


@pytest.mark.parametrize("method", ["random", "evolution"])
def test_the_best_that_was_scored_is_chosen(big, levels, method, found):
    trajectory, scored = found(method, big, levels, target=(0.4,))
    inside = {w: s.loss for w, s in scored.items() if Budget(big).within(np.array(w), 0.4)}
    assert len(inside) == len(scored) - 1 > 10  # all but the full network
    assert trajectory.at(0.4).widths == min(inside, key=inside.__getitem__)


@pytest.mark.parametrize("method", ["random", "evolution"])
def test_seeds_differ(big, levels, method, found):
    networks = [set(found(method, big, levels, seed=seed)[1]) for seed in (0, 1)]
    assert networks[0] != networks[1]


@pytest.mark.parametrize("method", ["random", "evolution"])
def test_few_networks_end_the_search(big, method, found):
    """With two levels each there are 16 networks: the search stops although it might spend more."""
    trajectory, scored = found(method, big, Levels.spaced(big, 2, 0.5, 2), target=(0.5,), passes=1000)
    assert len(scored) <= 17 and trajectory.passes <= 17


@pytest.mark.parametrize("method", ["random", "evolution"])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_of_a_separable_score(big, few, method, seed):
    """Found by trying all networks; evolution finds it for less than what all maximal networks would cost."""
    worth = np.random.default_rng(seed).uniform(0.2, 1.0, len(few.widths))
    toy = Toy(lambda widths: float(5 - worth @ (np.asarray(widths) / few.largest)), big)
    budget = Budget(big)
    every = np.array(list(itertools.product(*few.widths)), np.int32)
    inside = every[budget.within(every, 0.5)]
    optimum = min(toy.loss(widths) for widths in inside)
    trajectory = followed(method, toy, few, target=0.5, seed=seed, passes=25)
    assert trajectory.at(0.5).loss == pytest.approx(optimum, abs=1e-6)
    assert toy.calls < len(inside) / 2


def test_draws_are_brought_just_under_the_budget(big, levels):
    budget = Budget(big)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        network = fitted(budget, levels, levels.random(generator), 0.5, generator)
        assert budget.within(network, 0.5)
        for group, widths in enumerate(levels.widths):
            assert network[group] in widths
            for wider in (w for w in widths if w > network[group]):
                other = network.copy()
                other[group] = wider
                assert not budget.within(other, 0.5)
    assert fitted(budget, levels, levels.largest, 0.01, np.random.default_rng(0)) is None


def test_children(few):
    generator = np.random.default_rng(0)
    mother, father = few.largest, few.smallest
    free = [group for group, widths in enumerate(few.widths) if len(widths) > 1]
    for _ in range(20):
        child = crossover(mother, father, generator)
        assert all(width in (a, b) for width, a, b in zip(child, mother, father, strict=True))
        mutant = mutation(few, mother, generator)
        assert all(width in widths for width, widths in zip(mutant, few.widths, strict=True))
    mutants = np.array([mutation(few, mother, generator) for _ in range(300)])
    changed = (mutants != mother).mean(0)
    assert (changed[free] > 0.1).all() and (changed[free] < 0.45).all()


def test_evolution_learns_from_its_scores():
    """In a space of many groups, of unequal worth, it ends better than as many random networks."""
    deep = graph(widths=(16,) * 14)
    levels = Levels.spaced(deep, 8, 0.25, 1)
    worth = np.random.default_rng(5).uniform(0, 1, len(levels.widths)) ** 3
    losses = {}
    for method in ("random", "evolution"):
        toy = Toy(lambda w: float(9 - worth @ np.sqrt(w / levels.largest)), deep)
        losses[method] = followed(method, toy, levels, target=0.4, passes=50).at(0.4).loss
    assert losses["evolution"] < losses["random"] - 0.05


# -- sensitivity ----------------------------------------------------------------------------------------


def slow_sensitivity(levels, loss, within):
    """The path by explicit loops: every threshold that occurs, from the lowest up."""
    full = [widths[-1] for widths in levels.widths]

    def alone(group, width):
        return loss([*full[:group], width, *full[group + 1 :]]) - loss(full)

    thresholds = sorted({alone(g, w) for g, widths in enumerate(levels.widths) for w in widths[:-1]})
    path = [tuple(full)]
    for threshold in thresholds:
        network = tuple(
            min([w for w in widths[:-1] if alone(group, w) <= threshold], default=widths[-1])
            for group, widths in enumerate(levels.widths)
        )
        if network != path[-1]:
            path.append(network)
        if within(network):
            return path
    raise AssertionError("not reached")


@pytest.mark.parametrize("seed", range(4))
def test_sensitivity_is_the_path_of_all_thresholds(big, few, seed):
    """On scores with negative drops, drops that do not rise with narrowing, and equal ones."""
    table = {
        (group, width): round(float(np.random.default_rng([seed, group, width]).normal(0.3, 0.3)), 1)
        for group, widths in enumerate(few.widths)
        for width in widths[:-1]
    }

    def loss(widths):
        return 2.0 + sum(table.get((group, int(width)), 0.0) for group, width in enumerate(widths))

    budget = Budget(big)
    toy = Toy(lambda widths: float(np.float32(loss(widths))), big)
    trajectory = followed("sensitivity", toy, few, target=TARGETS)
    expected = slow_sensitivity(
        few, lambda w: float(np.float32(loss(w))), lambda w: budget.within(np.array(w), min(TARGETS))
    )
    assert [point.widths for point in trajectory.points] == expected
    for before, point in itertools.pairwise(trajectory.points):
        changed = [g for g, (a, b) in enumerate(zip(before.widths, point.widths, strict=True)) if a != b]
        assert point.group == (changed[0] if len(changed) == 1 else None)


def test_a_lower_target_goes_on_along_the_path(big, levels, found):
    near, scored = found("sensitivity", big, levels, target=(0.7,))
    far, anew = found("sensitivity", big, levels, target=(0.3,), known=scored)
    assert far.points[: len(near.points)] == near.points and len(far.points) > len(near.points)
    assert not set(anew) & set(scored)


def test_scores_that_are_not_finite_are_the_worst(big, levels):
    problem = Problem(Budget(big), levels, Toy(lambda widths: 1.0, big), SearchOptions())
    assert problem.badness(Score(float("nan"), 0.0, 0.1)) == float("inf")
