"""Stage `report`: the comparison as report.md and report.html, figures, and TensorBoard curves."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from autoslim.errors import AutoslimError
from autoslim.exporting.snippets import SHOWN_CLASSES, snippet
from autoslim.kinds import KINDS, kind_of
from autoslim.metrics import kept_values
from autoslim.reporting.figures import (
    accuracy_against_cost,
    channels_before_after,
    save_figure,
    search_curve,
    supernet_against_retrained,
)
from autoslim.reporting.markdown import Facts, report_markdown
from autoslim.reporting.network import NetworkResult, in_order
from autoslim.reporting.page import report_page
from autoslim.reporting.tables import not_known
from autoslim.reporting.tensorboard import write_report
from autoslim.reporting.trust import FEWEST, Judged
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import search
from autoslim.stages.bill import bill
from autoslim.stages.deployment import deployment_of
from autoslim.stages.experiment import Experiment
from autoslim.stages.latency import measured_together
from autoslim.stages.network import Network
from autoslim.stages.record import Piece, Run, Stage, any_trains_networks
from autoslim.stages.rivals import Rival, rivals
from autoslim.stages.store import StageFolder, write_atomically
from autoslim.stages.trained import shown
from autoslim.stages.trust import judged
from autoslim.stages.wanted import unused
from autoslim.stages.warn import labelled_warnings

ALONE = (
    "stages=[report] alone has nothing to report: name the stages whose results it should read too (they are "
    "reused where they are done), such as stages=[baseline,supernet,search,retrain,uniform,report]."
)


CAPTIONS = {
    "accuracy": "Accuracy against {resource}",
    "channels": "Channels before and after",
    "search": "The search",
    "trust": "Supernet and retraining",
}


class Material(NamedTuple):
    """What a report is made of."""

    trained: list[Network]  # of this run
    finished: dict[str, dict[str, Any]]  # label of a piece of work -> its result.json
    trajectory: Trajectory | None  # of the search, if this run needed one

    @property
    def test_images(self) -> int:
        """Number of test images that top-1 is of."""
        return int(self.trained[0].result["test_images"])


class Compared(NamedTuple):
    """What stands side by side in a report."""

    networks: list[Network]  # this run's first, then those of other methods
    results: list[NetworkResult]  # of these networks
    rivals: list[Rival]
    judged: list[Judged]  # networks retrained from this supernet
    judged_on: int  # held-out images


def report_key(experiment: Experiment, material: Material) -> dict[str, Any]:
    """What the report is named by: the networks and the search that it compares."""
    found = material.trajectory is not None
    return {
        "networks": sorted(one.trained_in.path.name for one in material.trained),
        "search": search.STAGE.folder(experiment).path.name if found else None,
        "resource": experiment.config.slim.resource,
    }


def run_report(experiment: Experiment, folder: StageFolder, material: Material) -> dict[str, Any]:
    """Write the report. It is made again each time: it costs seconds."""
    # 1. What is compared: this run's networks and those of other methods, and what the supernet said of them.
    others = rivals(experiment)
    networks = _with_rivals(material.trained, others)
    results = [shown(experiment, network) for network in networks]
    known = {result.folder: (result.label, result.kind) for result in reversed(results)}
    compared = Compared(networks, results, others, *judged(experiment, folder, known))
    # 2. Figures.
    figures = _figures(experiment, material, compared)
    paths = {name: save_figure(figure, folder.path / f"{name}.png") for name, figure in figures.items()}
    # 3. Text and curves.
    text = _text(experiment, folder, material, compared, paths)
    write_atomically(folder.path / "report.md", text)
    write_atomically(folder.path / "report.html", report_page(text, folder.path))
    full, resource = experiment.budget.full, experiment.config.slim.resource
    write_report(folder.path, results, full, resource, material.trajectory, figures)
    return folder.finish(
        {
            "networks": {r.label: Path(r.folder).name for r in results},
            "report": str(folder.path / "report.html"),
        }
    )


def _figures(experiment: Experiment, material: Material, compared: Compared) -> dict[str, Figure]:
    """The figures by the names of their files; those that there is nothing to show in are left out."""
    slim, metric = experiment.config.slim, experiment.task.metric
    own = compared.results[: len(material.trained)]
    figures = {
        "accuracy": accuracy_against_cost(
            compared.results, material.trajectory, slim.resource, material.test_images
        )
    }
    if any(not KINDS[one.kind].full for one in own):
        figures["channels"] = channels_before_after(_groups(experiment), own)
    if material.trajectory:
        figures["search"] = search_curve(material.trajectory, slim.targets, experiment.budget.limits, metric)
    if len(compared.judged) >= FEWEST:
        figures["trust"] = supernet_against_retrained(compared.judged, metric)
    return figures


def _text(
    experiment: Experiment,
    folder: StageFolder,
    material: Material,
    compared: Compared,
    figures: dict[str, Path],
) -> str:
    """The text of report.md."""
    config, trajectory = experiment.config, material.trajectory
    resource = config.slim.resource
    kind = _front(material.trained, kind_of(config.slim.method))
    passes = {rival.kind: rival.passes for rival in compared.rivals}
    facts = Facts(
        compared.results,
        experiment.budget.full,
        arch=config.arch.name,
        dataset=config.dataset.name,
        seed=config.seed,
        test_images=material.test_images,
        resource=resource,
        convention=config.slim.convention,
        training=_training(experiment, compared.results),
        trajectory=trajectory,
        kind=kind,
        passes=passes | ({kind: trajectory.passes} if trajectory else {}),
        judged=(compared.judged, compared.judged_on),
        latency=measured_together(experiment, compared.results),
        values={n.label: kept_values(n.result) for n in compared.networks},
        bill=bill(experiment, material.trained, material.finished),
        warnings=[*labelled_warnings(material.finished), *unused(experiment, compared.networks)],
        groups=_groups(experiment),
        not_known=not_known(experiment.plan),
        figures={CAPTIONS[name].format(resource=resource): path for name, path in figures.items()},
        program=functools.partial(_program, experiment) if experiment.classifies_images else None,
        command=_command(),
        folder=folder.path,
    )
    return report_markdown(facts)


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


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    experiment = run.experiment
    searched = experiment.config.slim.channels is None and {"search", "retrain"} & set(run.stages)
    trajectory = search.search_result(experiment) if searched else None
    material = Material(list(run.trained), dict(run.finished), trajectory)
    yield Piece(stage, stage.folder(experiment, material), (material,))


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    if not any_trains_networks(stages):
        raise AutoslimError(ALONE)


def _never(experiment: Experiment, folder: StageFolder, material: Material) -> bool:
    return False


STAGE = Stage(
    "report", report_key, run_report, check=_check, pieces=_pieces, done=_never, alone=True, resumes=False
)
