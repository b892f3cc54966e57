"""How networks that were retrained from a supernet did in the supernet, for the report."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from autoslim.reporting.trust import Judged
from autoslim.slimming.points import Widths, score_of, widths_key
from autoslim.slimming.scorer import Scorer
from autoslim.stages import joint, supernet
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.scored import ScoreFile
from autoslim.stages.store import CHANNELS, NETWORK_FIELDS, RESULT, StageFolder, reached, stage_hash
from autoslim.stages.wanted import network_folder
from autoslim.training.distribution import is_multi_worker


def retrained(experiment: Experiment) -> list[Network]:
    """All networks of the project's folder that were retrained from this supernet by this recipe.

    A folder is of this recipe if its channels, with this configuration, lead to its own name.
    """
    joints = _joints(experiment) if experiment.retrain.joint else [None]
    found: dict[Widths, Network] = {}
    for stage in ("retrain", "uniform"):
        for path in sorted(experiment.root.glob(f"{stage}-*/{RESULT}")):
            try:
                channels = yaml.safe_load((path.parent / CHANNELS).read_text())
                widths = experiment.plan.widths_from(channels)
                for folder in [network_folder(experiment, stage, widths, one) for one in joints]:
                    if folder.path == path.parent and folder.result(NETWORK_FIELDS):
                        share = float(experiment.budget.share(experiment.budget.cost(widths)))
                        found.setdefault(widths_key(widths), Network("other", share, widths, folder))
            except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
                continue  # damaged, or of another kind of network
    return list(found.values())


def _joints(experiment: Experiment) -> list[StageFolder | None]:
    """The trainings of several networks as one, by this recipe."""
    found: list[StageFolder | None] = []
    for path in sorted(experiment.root.glob("joint-*/config.yaml")):
        try:
            channels = yaml.safe_load(path.read_text())["channels"]
            widths = [experiment.plan.widths_from(one) for one in channels]
            folder = joint.STAGE.folder(experiment, widths)
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
    if not networks or not supernet.STAGE.folder(experiment).done or is_multi_worker(experiment.strategy):
        return [], 0  # of several workers one alone writes the report, and cannot run the supernet alone
    s = experiment.config.slim
    basis = {
        "supernet": supernet.STAGE.folder(experiment).path.name,
        "images": s.images,
        "batch": s.batch_size,
    }
    file = ScoreFile(report.path / f"supernet-{stage_hash(basis)}.jsonl")
    lacking = [n.known_widths for n in networks if widths_key(n.known_widths) not in file.known]
    if lacking:
        graph = experiment.graph_of(experiment.load_weights(supernet.STAGE.folder(experiment), supernet=True))
        scorer = Scorer(graph, experiment.holdout_batches(), task=experiment.task)
        for widths in lacking:
            losses, values = scorer(widths[None])
            file.add(widths_key(widths), score_of(losses[0], values[0]))
    found = []
    for network in networks:
        path = network.trained_in.path
        name, kind = labels.get(str(path), (path.name, network.kind))
        loss = file.known[widths_key(network.known_widths)].loss
        found.append(Judged(name, kind, network.target or 1.0, loss, reached(network.result)))
    return found, len(experiment.holdout_index())
