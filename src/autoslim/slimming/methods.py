"""The methods that choose channels, by name: all from the same supernet, under the same budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from autoslim.schema import DrawingOptions, GreedyOptions, PredictorOptions, SolverOptions
from autoslim.slimming.greedy import greedy
from autoslim.slimming.predictor import predictor_steps
from autoslim.slimming.problem import Problem, Step, follow
from autoslim.slimming.pruning import magnitude_steps, taylor_steps
from autoslim.slimming.rivals.evolution import evolution_steps
from autoslim.slimming.rivals.sampling import random_steps
from autoslim.slimming.rivals.sensitivity import sensitivity
from autoslim.slimming.rivals.uniform import uniform_steps
from autoslim.slimming.trajectory import Trajectory

OnPoint = Callable[[Trajectory], None] | None
Find = Callable[[Problem, Trajectory | None, OnPoint], Trajectory]  # (problem, start, on_point)


class Method(NamedTuple):
    """A way to choose channels."""

    find: Find
    options: type | None = None  # dataclass of the options that it alone has
    path: bool = False  # one path serves every target on its way; else a network depends on all targets
    importance: str | None = None  # by which it sorts a trained network's channels; None: it needs a supernet


def _by(steps: Callable[[Problem], Iterator[Step]]) -> Find:
    """A method whose networks are whole ones, each scored on all images; it goes on by `Problem.known`."""

    def find(problem: Problem, start: Trajectory | None, on_point: OnPoint) -> Trajectory:
        return follow(problem, steps(problem), on_point)

    return find


METHODS = {
    "greedy": Method(greedy, GreedyOptions, path=True),
    "uniform": Method(_by(uniform_steps)),
    "random": Method(_by(random_steps), DrawingOptions),
    "evolution": Method(_by(evolution_steps), DrawingOptions),
    "sensitivity": Method(sensitivity, path=True),
    "predictor": Method(_by(predictor_steps), PredictorOptions),
    "taylor": Method(_by(taylor_steps), SolverOptions, importance="taylor"),
    "magnitude": Method(_by(magnitude_steps), SolverOptions, importance="magnitude"),
}
