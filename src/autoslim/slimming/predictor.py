"""How much each width of each group costs in loss: an additive model of scored networks.

A supernet's score of one network errs by more than the differences that matter. A sum over groups of
functions of the width, fitted to a few hundred random networks, averages that error away, and one fit serves
every budget and every resource (`slimming.solver`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import nnls
from scipy.stats import spearmanr

from autoslim.errors import AutoslimError
from autoslim.slimming.levels import Levels
from autoslim.slimming.optimum import Optimum
from autoslim.slimming.points import widths_key
from autoslim.slimming.problem import Problem, Step, each_target
from autoslim.slimming.solver import PairwiseCost

log = logging.getLogger(__name__)

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the ridge, from which cross-validation chooses
FOLDS = 5
LEAN = 3.0  # most that draws lean: a group is exp(-LEAN) times as often at its widest as at its narrowest
FEWEST = 20  # networks to fit a predictor to
IDLE = 100  # draws in a row without a new network, after which there are taken to be no others


@dataclass(frozen=True)
class Predictor:
    """A fitted model: drop(widths) = sum over groups of drops[g][place of the width among its levels].

    Drops are 0 at full width and never fall when a group narrows.
    """

    drops: tuple[np.ndarray, ...]  # [G], float64 [levels of g]
    networks: int  # that it was fitted to
    error: float  # root mean square of the error on networks left out of the fit
    correlation: float  # Spearman's, of predicted and observed drops of networks left out of the fit
    penalty: float  # of the ridge, chosen by cross-validation

    @property
    def cost(self) -> PairwiseCost:
        """As what `solver.solve` minimises."""
        return PairwiseCost(0.0, self.drops, {})

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Predicted drops of networks given by the places of their widths, int [..., G]: float64 [...]."""
        return self.cost(places)


def predictor_steps(problem: Problem) -> Iterator[Step]:
    """For each target the network of least predicted loss within the budget, exactly.

    Random networks (`sampled_places`) are scored until `passes` are spent, but for what the networks found
    will take; the additive model is fitted to their scores, and one mixed-integer programme for each target
    finds the best widths under the target and all limits together (`optimum.Optimum`).
    """
    problem.refuse_unreachable()
    if all(problem.budget.within(problem.levels.largest, target) for target in problem.options.targets):
        return
    predictor = fitted(problem)
    log.info(
        "predictor: fitted to %d networks; on networks left out its error is %.4f, Spearman's correlation "
        "%.3f",
        predictor.networks,
        predictor.error,
        predictor.correlation,
    )
    best = Optimum(problem.budget, problem.levels, problem.options.trust, "predictor")
    yield from each_target(problem, lambda target, _: best(predictor.drops, target))


def fitted(problem: Problem) -> Predictor:
    """The model of random networks (`sampled_places`), scored until the passes are spent.

    Raises:
        AutoslimError: as `fit_predictor`.
    """
    levels, options = problem.levels, problem.options
    reserve = len(options.targets) * problem.whole
    (whole,) = problem.scores(levels.largest[None])
    places, drops, seen, idle = [], [], {widths_key(levels.largest)}, 0
    for draw in sampled_places(levels, problem.seed):
        widths = np.array([w[i] for w, i in zip(levels.widths, draw, strict=True)], np.int32)
        if widths_key(widths) in seen:
            idle += 1
            if idle == IDLE:
                break
            continue
        idle = 0
        if problem.spent + problem.price(widths) + reserve > options.passes * problem.whole:
            break
        (score,) = problem.scores(widths[None])
        seen.add(widths_key(widths))
        places.append(draw)
        drops.append(problem.badness(score) - problem.badness(whole))
    return fit_predictor(levels, np.array(places).reshape(-1, len(levels.widths)), np.array(drops))


def fit_predictor(levels: Levels, places: np.ndarray, drops: np.ndarray) -> Predictor:
    """Fit the additive model to networks' drops by ridge regression, monotone in every width.

    The unknowns are the steps from each level to the next narrower one, none below 0, and one constant: the
    full network's own score errs as the others do, and it is trained in every step of the supernet, so what
    all drops have in common says nothing of the widths. The ridge pulls the steps towards 0. Its penalty,
    and whether a channel less must hurt the more the narrower the group is, are chosen by cross-validation,
    in which every network is predicted by a model that did not see it.

    Args:
        levels: the widths that each group may take.
        places: of the networks' widths among the levels, int [N, G].
        drops: loss of each network less that of the full one on the same images, float [N].

    Raises:
        AutoslimError: for fewer than 20 networks, or drops that are not finite.
    """
    drops = np.asarray(drops, np.float64)
    if len(drops) < FEWEST or not np.isfinite(drops).all():
        raise AutoslimError(
            f"A predictor is fitted to at least {FEWEST} networks with finite losses; got {len(drops)}, "
            f"{int((~np.isfinite(drops)).sum())} of them not finite. Raise slim.passes, or train the "
            "supernet with a lower learning rate."
        )
    design = _design(levels, np.asarray(places))
    predicted = {
        (shape, penalty): _left_out(design, drops, basis, penalty)
        for shape, basis in enumerate(_shapes(levels))
        for penalty in PENALTIES
    }
    errors = {key: float(np.sqrt(np.mean((found - drops) ** 2))) for key, found in predicted.items()}
    best = min(errors, key=lambda key: errors[key])
    shape, penalty = best
    steps, _ = _fit(design, drops, _shapes(levels)[shape], penalty)
    varied = np.ptp(predicted[best]) > 0 and np.ptp(drops) > 0
    correlation = float(spearmanr(predicted[best], drops).statistic) if varied else 0.0
    return Predictor(_tables(levels, steps), len(drops), errors[best], correlation, penalty)


def sampled_places(levels: Levels, seed: int) -> Iterator[np.ndarray]:
    """Random networks to fit a predictor to, as places of widths among the levels: int [G] each.

    Groups are drawn independently of one another, so that what each does can be separated. Draws lean
    towards narrow levels, some not at all and some strongly: networks within a budget are narrow, and cost
    less to score.
    """
    sizes = [len(widths) for widths in levels.widths]
    number = 0
    while True:
        generator = np.random.default_rng([seed, number])
        lean = generator.uniform(0.0, LEAN)
        chances = [np.exp(-lean * np.arange(size) / max(size - 1, 1)) for size in sizes]
        yield np.array([generator.choice(len(chance), p=chance / chance.sum()) for chance in chances])
        number += 1


def _design(levels: Levels, places: np.ndarray) -> np.ndarray:
    """A column for each step of each group, from a level to the next narrower: 1 where it was taken."""
    columns = [
        (places[:, group] <= step).astype(np.float64)
        for group, widths in enumerate(levels.widths)
        for step in range(len(widths) - 1)
    ]
    return np.stack(columns, 1) if columns else np.zeros((len(places), 0))


def _shapes(levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """What steps may look like, each as a matrix whose sums of columns, none negative, are steps.

    Any that are not negative; or those that cost more for each channel, the narrower the group already is.
    """
    blocks = [np.zeros((0, 0))]
    for widths in levels.widths:
        gaps = np.diff(widths) / max(1.0, float(np.mean(np.diff(widths)))) if len(widths) > 1 else np.zeros(0)
        blocks.append(np.triu(np.repeat(gaps[:, None], len(gaps), 1)))
    growing = block_diag(*blocks)
    return np.eye(len(growing)), growing


def _fit(
    design: np.ndarray, drops: np.ndarray, basis: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """Steps of a shape that explain the drops, float64 [columns], and what all drops have in common."""
    means = design.mean(0)
    rows = np.concatenate([(design - means) @ basis, np.sqrt(penalty) * basis])
    steps = basis @ nnls(rows, np.append(drops - drops.mean(), np.zeros(len(basis))))[0]
    return steps, float(drops.mean() - means @ steps)


def _left_out(design: np.ndarray, drops: np.ndarray, basis: np.ndarray, penalty: float) -> np.ndarray:
    """Each network's drop as predicted by a fit to the other folds: float64 [N]."""
    found, folds = np.empty(len(drops)), np.arange(len(drops)) % FOLDS
    for fold in range(FOLDS):
        out = folds == fold
        steps, common = _fit(design[~out], drops[~out], basis, penalty)
        found[out] = design[out] @ steps + common
    return found


def _tables(levels: Levels, steps: np.ndarray) -> tuple[np.ndarray, ...]:
    tables, start = [], 0
    for widths in levels.widths:
        count = len(widths) - 1
        below = steps[start : start + count]
        tables.append(np.append(np.cumsum(below[::-1])[::-1], 0.0))
        start += count
    return tuple(tables)
