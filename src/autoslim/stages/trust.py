"""How networks that were retrained from a supernet did in the supernet, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from autoslim.reporting.trust import Judged
from autoslim.slimming.budget import Budget
from autoslim.slimming.points import Score, Widths, score_of, widths_key
from autoslim.slimming.scorer import Scorer
from autoslim.stages.builder import Builder
from autoslim.stages.images import Images
from autoslim.stages.network import Network
from autoslim.stages.recipe import Recipe
from autoslim.stages.scored import ScoreFile
from autoslim.stages.store import CHANNELS, NETWORK_FIELDS, RESULT, StageFolder, reached, stage_hash
from autoslim.stages.wanted import share_of
from autoslim.stages.weights import load_weights
from autoslim.tasks import Outputs


def retrained(recipe: Recipe, budget: Budget) -> list[Network]:
    """All networks of the project's folder that were retrained by this recipe, which may name the supernet.

    A folder is of this recipe if its channels, with this configuration, lead to its own name.
    """
    joints = _joints(recipe) if recipe.options.joint else [None]
    found: dict[Widths, Network] = {}
    for stage in ("retrain", "uniform"):
        for path in sorted(recipe.root.glob(f"{stage}-*/{RESULT}")):
            try:
                channels = yaml.safe_load((path.parent / CHANNELS).read_text())
                widths = recipe.plan.widths_from(channels)
                for folder in [recipe.network_folder(stage, widths, one) for one in joints]:
                    if folder.path == path.parent and folder.result(NETWORK_FIELDS):
                        network = Network("other", share_of(widths, budget), widths, folder)
                        found.setdefault(widths_key(widths), network)
            except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
                continue  # damaged, or of another kind of network
    return list(found.values())


def _joints(recipe: Recipe) -> list[StageFolder | None]:
    """The trainings of several networks as one, by this recipe."""
    found: list[StageFolder | None] = []
    for path in sorted(recipe.root.glob("joint-*/config.yaml")):
        try:
            channels = yaml.safe_load(path.read_text())["channels"]
            widths = [recipe.plan.widths_from(one) for one in channels]
            folder = StageFolder(recipe.root, "joint", recipe.joint_key(widths))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
            continue  # damaged, or of another kind of network
        if folder.path == path.parent:
            found.append(folder)
    return found


def scores_in(
    supernet: StageFolder,
    networks: Sequence[Network],
    report: Path,
    images: Images,
    builder: Builder,
    task: Outputs,
) -> dict[Widths, Score]:
    """The supernet's held-out score of each network.

    The scores are kept in the report's folder: each network costs one pass, once.

    Args:
        supernet: its folder.
        networks: whose widths are known.
        report: the report's folder.
        images: those held out are looked at.
        builder: of the supernet.
        task: what it learns.
    """
    basis = {
        "supernet": supernet.path.name,
        "images": images.slim.images,
        "batch": images.slim.batch_size,
    }
    file = ScoreFile(report / f"supernet-{stage_hash(basis)}.jsonl")
    lacking = [n.known_widths for n in networks if widths_key(n.known_widths) not in file.known]
    if lacking:
        graph = builder.graph(load_weights(builder.supernet(), supernet))
        scorer = Scorer(graph, images.heldout(), task=task)
        for widths in lacking:
            losses, values = scorer(widths[None])
            file.add(widths_key(widths), score_of(losses[0], values[0]))
    return file.known


def judged(
    networks: Sequence[Network], scores: Mapping[Widths, Score], labels: Mapping[str, tuple[str, str]]
) -> list[Judged]:
    """Retrained networks with the supernet's score of each.

    Args:
        networks: retrained.
        scores: of their widths.
        labels: path of a network's folder -> its label and its kind, where they are known.
    """
    found = []
    for network in networks:
        path = network.trained_in.path
        name, kind = labels.get(str(path), (path.name, network.kind))
        loss = scores[widths_key(network.known_widths)].loss
        found.append(Judged(name, kind, network.target or 1.0, loss, reached(network.result)))
    return found
