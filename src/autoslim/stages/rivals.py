"""What other methods found from the same supernet and what became of it, read from their folders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from autoslim.errors import AutoslimError
from autoslim.kinds import METHODS, kind_of
from autoslim.stages import search
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.search import load_trajectory
from autoslim.stages.store import RESULT, StageFolder
from autoslim.stages.wanted import wanted

log = logging.getLogger(__name__)

BUDGET = ("resource", "convention", "limits", "images", "batch_size")
"""Keys of `slim` in which searches that are set side by side agree."""


class Rival(NamedTuple):
    """Another method's search, and its networks that were retrained as this run's are."""

    kind: str  # of its networks, a key of `kinds.KINDS`
    passes: float  # full-network passes over the held-out images that it spent
    networks: list[Network]


def rivals(experiment: Experiment) -> list[Rival]:
    """Finished searches by other methods, of each method the latest, with their retrained networks.

    They share the supernet, the retraining recipe, the targets, the budget's terms and the held-out images
    with this run.
    """
    if experiment.config.slim.channels is not None:
        return []
    own, latest = search.STAGE.folder(experiment), {}
    folders = (path.parent for path in experiment.root.glob(f"search-*/{RESULT}"))
    for path in sorted(folders, key=lambda path: ((path / RESULT).stat().st_mtime_ns, path.name)):
        method = _comparable(own, path, experiment.config.slim.targets)
        if method is not None:
            latest[method] = path
    order = [method for method in METHODS if method in latest]
    found = [_rival(experiment, method, latest[method]) for method in order]
    return [rival for rival in found if rival is not None and rival.networks]


def _comparable(own: StageFolder, path: Path, targets: Sequence[float]) -> str | None:
    """The method of a search folder that may be compared with `own`; None: it may not, or is unreadable."""
    try:
        key = yaml.safe_load((path / "config.yaml").read_text())
        theirs: Mapping[str, Any] = key["slim"]
        method = str(theirs["method"])
        same = key["supernet"] == own.key["supernet"] and key.get("device") == own.key.get("device")
        same &= set(targets) <= set(key.get("targets", targets))  # without a path a method serves its own
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None
    ours = own.key["slim"]
    same &= all(theirs.get(name) == ours.get(name) for name in BUDGET)
    return method if same and method in METHODS and method != ours["method"] else None


def _rival(experiment: Experiment, method: str, path: Path) -> Rival | None:
    """One method's networks for this run's targets, as far as they are retrained."""
    s, networks = experiment.config.slim, []
    try:
        trajectory = load_trajectory(experiment, path)
        if trajectory is None or not trajectory.reaches(min(s.targets), experiment.budget.limits):
            return None
        for network in wanted(experiment, trajectory, method):
            if network.done and network.result:
                networks.append(network)
    except AutoslimError as error:
        log.warning("The search in %s is left out of the report: %s", path, error)
        return None
    return Rival(kind_of(method), trajectory.passes, networks)
