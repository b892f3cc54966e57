"""Whether the channels that `slim.channels` names were found by a search of this supernet."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import yaml

from autoslim.kinds import METHODS, kind_of
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import supernet
from autoslim.stages.channels import channels_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import RESULT, TRAJECTORY, StageFolder, stage_hash


class Origin(NamedTuple):
    """The search that found a network's channels."""

    kind: str  # of its networks, a key of `kinds.KINDS`
    folder: StageFolder  # of the search


def origin(experiment: Experiment) -> Origin | None:
    """The search that found the channels of `slim.channels`; None: no search of this supernet did.

    What a file is called, or where it lies, proves nothing: its widths must be those that the search chose
    for one of its targets.
    """
    trained = stage_hash(supernet.supernet_key(experiment))
    widths = channels_widths(experiment)
    for result in sorted(experiment.root.glob(f"search-*/{RESULT}")):
        try:
            key = yaml.safe_load((result.parent / "config.yaml").read_text())
            method = key["slim"]["method"]
            if key["supernet"] != trained or method not in METHODS:
                continue
            targets = [float(target) for target in json.loads(result.read_text())["channels"]]
            trajectory = Trajectory.from_dict(json.loads((result.parent / TRAJECTORY).read_text()))
            limits = key["slim"].get("limits", {})
            found = [trajectory.at(t, limits).widths for t in targets if trajectory.reaches(t, limits)]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            continue  # damaged, or of another version
        if any(np.array_equal(widths, one) for one in found):
            folder = StageFolder(experiment.root, "search", key)
            return Origin(kind_of(method), folder) if folder.path == result.parent else None
    return None
