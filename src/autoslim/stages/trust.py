"""How networks that were retrained from a supernet did in the supernet, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import yaml

from autoslim.reporting.trust import Judged
from autoslim.slimming.points import Widths, score_of, widths_key
from autoslim.slimming.scorer import Scorer
from autoslim.stages.experiment import Experiment
from autoslim.stages.scored import ScoreFile
from autoslim.stages.store import CHANNELS, NETWORK_FIELDS, RESULT, StageFolder, stage_hash
from autoslim.training.distribution import is_multi_worker


class Retrained(NamedTuple):
    """A retrained network."""

    folder: StageFolder
    widths: np.ndarray  # int32 [G]
    top1: float  # share of test images that are right


def retrained(experiment: Experiment) -> list[Retrained]:
    """All networks of the project's folder that were retrained from this supernet by this recipe.

    A folder is of this recipe if its channels, with this configuration, lead to its own name.
    """
    together = experiment.config.retrain.joint
    joints = _joints(experiment) if together else [None]
    found: dict[Widths, Retrained] = {}
    for stage in ("retrain", "uniform")[: 1 if together else 2]:
        for path in sorted(experiment.root.glob(f"{stage}-*/{RESULT}")):
            try:
                channels = yaml.safe_load((path.parent / CHANNELS).read_text())
                widths = experiment.plan.widths_from(channels)
                folders = [experiment.network_folder(stage, widths, joint) for joint in joints]
                for folder in folders:
                    if folder.path == path.parent:
                        top1 = float(folder.result(NETWORK_FIELDS)["top1"])
                        found.setdefault(widths_key(widths), Retrained(folder, widths, top1))
            except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
                continue  # damaged, or of another kind of network
    return list(found.values())


def _joints(experiment: Experiment) -> list[StageFolder | None]:
    """The trainings of several networks as one, by this recipe."""
    found: list[StageFolder | None] = []
    for path in sorted(experiment.root.glob("joint-*/config.yaml")):
        try:
            channels = yaml.safe_load(path.read_text())["channels"]
            folder = experiment.joint_folder([experiment.plan.widths_from(one) for one in channels])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            continue  # damaged, or of another kind of network
        if folder.path == path.parent:
            found.append(folder)
    return found


def judged(
    experiment: Experiment, report: StageFolder, labels: Mapping[str, tuple[str, str]]
) -> tuple[list[Judged], int]:
    """The retrained networks with the supernet's held-out score of each, and on how many images that is.

    The scores are kept in the report's folder: each network costs one pass, once.

    Args:
        experiment: of the run.
        report: the report's folder.
        labels: path of a network's folder -> its label and its kind, where they are known.
    """
    networks = retrained(experiment)
    if not networks or not experiment.supernet_folder().done or is_multi_worker(experiment.strategy):
        return [], 0  # of several workers one alone writes the report, and cannot run the supernet alone
    s = experiment.config.slim
    basis = {"supernet": experiment.supernet_folder().path.name, "images": s.images, "batch": s.batch_size}
    file = ScoreFile(report.path / f"supernet-{stage_hash(basis)}.jsonl")
    lacking = [n.widths for n in networks if widths_key(n.widths) not in file.known]
    if lacking:
        graph = experiment.graph_of(experiment.load_weights(experiment.supernet_folder()))
        scorer = Scorer(graph, experiment.holdout_batches())
        for widths in lacking:
            losses, right = scorer(widths[None])
            file.add(widths_key(widths), score_of(losses[0], right[0]))
    found = []
    for network in networks:
        path = str(network.folder.path)
        name, kind = labels.get(path, (network.folder.path.name, "other"))
        share = float(experiment.budget.share(experiment.budget.cost(network.widths)))
        found.append(Judged(name, kind, share, file.known[widths_key(network.widths)].loss, network.top1))
    return found, len(experiment.holdout_index())
