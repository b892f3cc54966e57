"""What other methods found from the same supernet and what became of it, read from their folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from autoslim.errors import AutoslimError
from autoslim.kinds import METHODS, kind_of
from autoslim.slimming.budget import Budget
from autoslim.stages.network import Network
from autoslim.stages.recipe import Recipe
from autoslim.stages.search import load_trajectory
from autoslim.stages.store import RESULT, StageFolder, key_in
from autoslim.stages.wanted import found_networks

log = logging.getLogger(__name__)

BUDGET = ("resource", "convention", "limits", "images", "batch_size")
"""Keys of `slim` in which searches that are set side by side agree."""


class Rival(NamedTuple):
    """Another method's search, and its networks that were retrained as this run's are."""

    kind: str  # of its networks, a key of `kinds.KINDS`
    passes: float  # full-network passes over the held-out images that it spent
    networks: list[Network]


def rivals(own: StageFolder, targets: Sequence[float], recipe: Recipe, budget: Budget) -> list[Rival]:
    """Finished searches by other methods, of each method the latest, with their retrained networks.

    They share the supernet, the retraining recipe, the targets, the budget's terms and the held-out images
    with this run.

    Args:
        own: the folder of this run's search.
        targets: of this run.
        recipe: of this run's networks.
        budget: what they may cost.
    """
    latest: dict[str, Path] = {}
    folders = (path.parent for path in recipe.root.glob(f"search-*/{RESULT}"))
    for path in sorted(folders, key=lambda path: ((path / RESULT).stat().st_mtime_ns, path.name)):
        method = _comparable(own, path, targets)
        if method is not None:
            latest[method] = path
    order = [method for method in METHODS if method in latest]
    found = [_rival(kind_of(method), latest[method], targets, recipe, budget) for method in order]
    return [rival for rival in found if rival is not None and rival.networks]


def _comparable(own: StageFolder, path: Path, targets: Sequence[float]) -> str | None:
    """The method of a search folder that may be compared with `own`; None: it may not, or is unreadable."""
    try:
        key = key_in(path)
        theirs: Mapping[str, Any] = key["slim"]
        method = str(theirs["method"])
        same = key["supernet"] == own.key["supernet"] and key.get("device") == own.key.get("device")
        same &= set(targets) <= set(key.get("targets", targets))  # without a path a method serves its own
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ours = own.key["slim"]
    same &= all(theirs.get(name) == ours.get(name) for name in BUDGET)
    return method if same and method in METHODS and method != ours["method"] else None


def _rival(kind: str, path: Path, targets: Sequence[float], recipe: Recipe, budget: Budget) -> Rival | None:
    """The networks of a search of this kind for this run's targets, as far as they are retrained."""
    try:
        trajectory = load_trajectory(path, recipe.plan)
        if trajectory is None or not trajectory.reaches(min(targets), budget.limits):
            return None
        networks = recipe.with_folders(found_networks(trajectory, kind, targets, budget))
        trained = [network for network in networks if network.done and network.result]
    except AutoslimError as error:
        log.warning("The search in %s is left out of the report: %s", path, error)
        return None
    return Rival(kind, trajectory.passes, trained)
