"""Uniform slimming: every group at the same ratio of its channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoslim.slimming.rivals.problem import Problem, Step, each_target
from autoslim.slimming.search import uniform_widths


def uniform_steps(problem: Problem, targets: Sequence[float]) -> Iterator[Step]:
    """The widest uniform network within each target; the levels have no say.

    Raises:
        AutoslimError: if even one channel per group costs more.
    """
    return each_target(problem, targets, lambda target, _: uniform_widths(problem.budget, target))
