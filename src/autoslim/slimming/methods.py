"""The methods that choose channels, by name: all from the same supernet, under the same budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import NamedTuple

from autoslim.slimming.mode import SearchMode
from autoslim.slimming.rivals.find import find
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory


class Method(NamedTuple):
    """A way to choose channels."""

    find: Callable[..., Trajectory]  # (graph, levels, holdout, *, targets, resource, ...) -> Trajectory
    options: tuple[str, ...]  # keywords that its result depends on, beside those that all methods take
    resume: tuple[str, ...]  # keywords by which it goes on with what an earlier call found
    path: bool  # one search serves every target on its way; else a target's network depends on all targets


# Every method takes a score; the others are the greedy search's own.
GREEDY_OPTIONS = (*(item.name for item in fields(SearchMode) if item.name != "score"), "exchange")

METHODS = {
    "greedy": Method(search, GREEDY_OPTIONS, ("start",), path=True),
    "uniform": Method(partial(find, "uniform"), (), ("known", "on_scored"), path=False),
    "random": Method(partial(find, "random"), ("seed", "passes"), ("known", "on_scored"), path=False),
    "evolution": Method(partial(find, "evolution"), ("seed", "passes"), ("known", "on_scored"), path=False),
    "sensitivity": Method(partial(find, "sensitivity"), (), ("known", "on_scored"), path=True),
}
