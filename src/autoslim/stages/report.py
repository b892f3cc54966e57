"""Stage `report`: the comparison as report.md, figures, and TensorBoard curves."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from autoslim.exporting.snippets import SHOWN_CLASSES, snippet
from autoslim.graph import Cost
from autoslim.kinds import KINDS, kind_of
from autoslim.metrics import kept_values
from autoslim.reporting.figures import (
    accuracy_against_cost,
    channels_before_after,
    save_png,
    search_curve,
    supernet_against_retrained,
)
from autoslim.reporting.markdown import report_markdown
from autoslim.reporting.network import NetworkResult, in_order
from autoslim.reporting.tensorboard import write_report
from autoslim.reporting.trust import FEWEST
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.bill import bill
from autoslim.stages.deployment import deployment_of
from autoslim.stages.experiment import Experiment
from autoslim.stages.latency import compared
from autoslim.stages.network import Network
from autoslim.stages.rivals import Rival, rivals
from autoslim.stages.store import StageFolder, write_atomically
from autoslim.stages.trained import shown
from autoslim.stages.trust import judged
from autoslim.stages.warn import told


def run_report(
    experiment: Experiment,
    trained: list[Network],
    finished: dict[str, dict[str, Any]],
    trajectory: Trajectory | None,
) -> Path:
    """Write the report on these networks and return its folder. It is made again each time: it costs seconds.

    Args:
        experiment: of the run.
        trained: the networks of this run.
        finished: stage label -> its result.json.
        trajectory: of the search, if there was one.
    """
    config = experiment.config
    key = {
        "networks": sorted(one.trained_in.path.name for one in trained),
        "search": experiment.search_folder().path.name if trajectory else None,
        "resource": config.slim.resource,
    }
    folder = StageFolder(experiment.root, "report", key)
    with folder.locked(experiment.lock_wait):
        _write(experiment, folder, trained, finished, trajectory)
    return folder.path


def _write(
    experiment: Experiment,
    folder: StageFolder,
    trained: list[Network],
    finished: dict[str, dict[str, Any]],
    trajectory: Trajectory | None,
) -> None:
    config = experiment.config
    resource = config.slim.resource
    others = rivals(experiment)
    kind = _front(trained, kind_of(config.slim.method))
    networks = _with_rivals(trained, others)
    results = [shown(experiment, network) for network in networks]
    own = results[: len(trained)]
    first = trained[0].result
    test_images = first["test_images"]
    known = {result.folder: (result.label, result.kind) for result in reversed(results)}
    judgements, images = judged(experiment, folder, known)
    figures = _figures(experiment, own, results, test_images, trajectory)
    if len(judgements) >= FEWEST:
        figures["trust"] = supernet_against_retrained(judgements, experiment.task.metric)
    paths = {name: save_png(figure, folder.path / f"{name}.png") for name, figure in figures.items()}
    titles = {
        "accuracy": f"Accuracy against {resource}",
        "channels": "Channels before and after",
        "search": "The search",
        "trust": "Supernet and retraining",
    }
    full: Cost = experiment.budget.full
    text = report_markdown(
        results,
        full,
        arch=config.arch.name,
        dataset=config.dataset.name,
        seed=config.seed,
        test_images=test_images,
        resource=resource,
        convention=config.slim.convention,
        training=_training(experiment, results),
        trajectory=trajectory,
        kind=kind,
        passes={rival.kind: rival.passes for rival in others}
        | ({kind: trajectory.passes} if trajectory else {}),
        judged=(judgements, images),
        latency=compared(experiment, results),
        values={n.label: kept_values(n.result) for n in networks},
        bill=bill(experiment, finished),
        warnings=told(finished),
        groups=_groups(experiment),
        figures={titles[name]: path for name, path in paths.items()},
        program=functools.partial(_program, experiment) if experiment.classifies_images else None,
        command=_command(),
        folder=folder.path,
    )
    write_atomically(folder.path / "report.md", text)
    write_report(folder.path, results, trajectory, figures)
    folder.finish(
        {
            "networks": {r.label: Path(r.folder).name for r in results},
            "report": str(folder.path / "report.md"),
        }
    )


def _figures(
    experiment: Experiment,
    own: list[NetworkResult],
    results: list[NetworkResult],
    test_images: int,
    trajectory: Trajectory | None,
) -> dict[str, Figure]:
    """The figures by the names of their files; those that there is nothing to show in are left out."""
    slim = experiment.config.slim
    figures = {"accuracy": accuracy_against_cost(results, trajectory, slim.resource, test_images)}
    if any(not KINDS[one.kind].full for one in own):
        figures["channels"] = channels_before_after(_groups(experiment), own)
    if trajectory:
        figures["search"] = search_curve(
            trajectory, slim.targets, experiment.budget.limits, experiment.task.metric
        )
    return figures


def _with_rivals(trained: list[Network], others: list[Rival]) -> list[Network]:
    """This run's networks, and those of other methods that are not among them."""
    named = {(one.kind, one.target) for one in trained}
    found = [one for rival in others for one in rival.networks]
    return [*trained, *(one for one in found if (one.kind, one.target) not in named)]


def _training(experiment: Experiment, results: list[NetworkResult]) -> str:
    """Which differences between the networks are of their training, not of their channels alone."""
    b, r = experiment.baseline, experiment.retrain
    if all(KINDS[result.kind].full for result in results):
        return ""
    start = "the supernet's weights" if r.init == "supernet" else "fresh weights"
    apart = trained_apart(results) if r.joint else ""
    text = "All slim networks, also the uniform ones and those of other methods, were trained "
    text += f"{'' if apart else 'by one recipe, '}from {start} (epochs: {r.epochs})"
    text += ", the networks of one method jointly" if r.joint else ""
    text += (
        ""
        if r.teacher == "none"
        else f", with the {r.teacher}{' network' if r.teacher == 'given' else ''} as teacher"
    )
    text += apart
    trained = {
        "given": "The given network was trained before, in a way that is not known here",
        "baseline": f"The full network has a recipe of its own (epochs: {b.epochs})",
    }
    full = {result.kind for result in results if KINDS[result.kind].full}
    for kind in (kind for kind in trained if kind in full):
        text += f". {trained[kind]}: its difference from a slim network is of the training and the channels "
        text += "together"
    return text + "."


def trained_apart(results: list[NetworkResult]) -> str:
    """What jointly trained networks of different methods do not share: their companions; "" if they do."""
    together: dict[str, dict[str, str]] = {}  # kind -> folder -> target; equal networks are trained once
    for result in in_order(results):
        if result.target is not None:
            together.setdefault(result.kind, {}).setdefault(result.folder, f"{result.target:g}")
    sets = {kind: list(folders.values()) for kind, folders in together.items()}
    if all(one == next(iter(sets.values())) for one in sets.values()):
        return ""
    listed = "; ".join(f"{KINDS[kind].label} {', '.join(targets)}" for kind, targets in sets.items())
    return (
        f". The methods did not train networks of the same targets together ({listed}), and networks that "
        "are trained together change one another: a difference between methods is also of the training"
    )


def _front(networks: list[Network], kind: str) -> str:
    """The kind that the others are compared with: what was retrained, else what the method finds."""
    retrained = [n.kind for n in networks if n.target is not None and n.kind != "uniform"]
    return retrained[0] if retrained else kind


def _groups(experiment: Experiment) -> list[tuple[str, int]]:
    """(name, channels at full width) of the groups that can be slimmed."""
    return [(group.name, group.size) for group in experiment.plan.slimmable]


def _program(experiment: Experiment, file: str) -> str:
    """The program that runs a network's Keras file on image files."""
    network = dataclasses.replace(deployment_of(experiment), inside=False, input_size=None)
    return snippet("keras", file, network, experiment.data.classes, shown=SHOWN_CLASSES)


def _command() -> str:
    """The command line of this call."""
    program = sys.argv[0]
    head = "python -m autoslim" if program.endswith(("__main__.py", "-c")) else Path(program).name
    return " ".join([head, *(f"'{a}'" if any(m in a for m in "[]{}* ") else a for a in sys.argv[1:])])
