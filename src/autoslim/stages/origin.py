"""Whether the channels that `slim.channels` names were found by a search of this supernet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autoslim.kinds import METHODS, kind_of
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.store import RESULT, TRAJECTORY, StageFolder, key_in


class Origin(NamedTuple):
    """The search that found a network's channels."""

    kind: str  # of its networks, a key of `kinds.KINDS`
    folder: StageFolder  # of the search


def origin(root: Path, supernet: str, widths: np.ndarray) -> Origin | None:
    """The search that found the channels of `slim.channels`; None: no search of this supernet did.

    What a file is called, or where it lies, proves nothing: its widths must be those that the search chose
    for one of its targets.

    Args:
        root: of the stages' folders.
        supernet: hash of the supernet's key.
        widths: of these channels, int32 [G].
    """
    for result in sorted(root.glob(f"search-*/{RESULT}")):
        try:
            key = key_in(result.parent)
            method = key["slim"]["method"]
            if key["supernet"] != supernet or method not in METHODS:
                continue
            targets = [float(target) for target in json.loads(result.read_text())["channels"]]
            trajectory = Trajectory.from_dict(json.loads((result.parent / TRAJECTORY).read_text()))
            limits = key["slim"].get("limits", {})
            found = [trajectory.at(t, limits).widths for t in targets if trajectory.reaches(t, limits)]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # damaged, or of another version
        if any(np.array_equal(widths, one) for one in found):
            folder = StageFolder(root, "search", key)
            return Origin(kind_of(method), folder) if folder.path == result.parent else None
    return None
