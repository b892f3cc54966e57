"""Stage `report`: the comparison as report.md and report.html, figures, and TensorBoard curves."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from autoslim.datasets import Dataset
from autoslim.errors import AutoslimError
from autoslim.exporting.snippets import SHOWN_CLASSES, snippet
from autoslim.graph import ChannelGraph
from autoslim.kinds import KINDS, kind_of
from autoslim.metrics import Metric, kept_values
from autoslim.reporting.bill import Bill
from autoslim.reporting.figures import (
    accuracy_against_cost,
    channels_before_after,
    save_figure,
    search_curve,
    supernet_against_retrained,
)
from autoslim.reporting.latency import LatencyRow
from autoslim.reporting.markdown import Facts, report_markdown
from autoslim.reporting.network import NetworkResult, in_order
from autoslim.reporting.page import report_page
from autoslim.reporting.tables import not_known
from autoslim.reporting.tensorboard import write_report
from autoslim.reporting.trust import FEWEST, Judged
from autoslim.schema import BaselineConfig, Config, ExportConfig, RetrainConfig, SlimConfig
from autoslim.slimming.budget import Budget
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import search, supernet
from autoslim.stages.bill import bill
from autoslim.stages.deployment import deployment_of
from autoslim.stages.experiment import Experiment
from autoslim.stages.latency import measured_together
from autoslim.stages.network import Network
from autoslim.stages.recipe import recipe_of
from autoslim.stages.record import Piece, Run, Stage, any_trains_networks
from autoslim.stages.rivals import Rival, rivals
from autoslim.stages.store import StageFolder, write_atomically
from autoslim.stages.trained import shown
from autoslim.stages.trust import judged, retrained, scores_in
from autoslim.stages.wanted import unused
from autoslim.stages.warn import labelled_warnings, learnt_little
from autoslim.tasks import Objective, Outputs, objective_of
from autoslim.training.distribution import is_multi_worker

log = logging.getLogger(__name__)

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


FULL = ("baseline", "given")  # labels of what brings the full network
STARTS = {
    "supernet": "the supernet's weights",
    "baseline": "the trained full network's weights, with the most important channels of each layer",
    "scratch": "fresh weights",
}
"""`retrain.init` -> what networks were trained from."""


class Material(NamedTuple):
    """What a report is made of."""

    trained: list[Network]  # of this run
    finished: dict[str, dict[str, Any]]  # label of a piece of work -> its result.json
    trajectory: Trajectory | None  # of the search, if this run needed one
    bill: Bill  # of this run

    @property
    def test_images(self) -> int:
        """Number of test images that top-1 is of."""
        return int(self.trained[0].result["test_images"])


class Compared(NamedTuple):
    """What stands side by side in a report."""

    networks: list[Network]  # this run's first, then those of other methods
    results: list[NetworkResult]  # of these networks
    rivals: list[Rival]
    judged: tuple[list[Judged], int]  # networks retrained by this recipe; how many held-out images
    latency: tuple[list[LatencyRow], dict[str, Any]]  # of these networks, where it is limited
    training: str  # sentences on how they were trained, where that differs
    warnings: list[str]  # sentences on networks that leave much of their budget unused, and on their start


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
    config, budget, task = experiment.config, experiment.budget, experiment.task
    slim, images = config.slim, experiment.images
    # 1. The networks: this run's, those of other methods, and what the supernet said of all retrained ones.
    recipe, base = recipe_of(experiment), supernet.STAGE.folder(experiment)
    others: list[Rival] = []
    if slim.channels is None:
        others = rivals(search.STAGE.folder(experiment), slim.targets, recipe, budget)
    networks = _with_rivals(material.trained, others)
    results = [shown(network, budget, experiment.chance) for network in networks]
    several = is_multi_worker(experiment.strategy)  # of several workers one alone cannot run the supernet
    again = retrained(recipe, budget) if base.done and not several else []
    scores = scores_in(base, again, folder.path, images, experiment.builder, task)
    slimmed = [one for one in networks if one.target is not None and slim.channels is None]
    known = {result.folder: (result.label, result.kind) for result in reversed(results)}
    compared = Compared(
        networks,
        results,
        others,
        (judged(again, scores, known), len(images.heldout_index()) if again else 0),
        measured_together(results, slim.targets, budget, experiment.latency),
        _training(results, experiment.baseline, experiment.retrain),
        [
            *(unused(slimmed, budget, experiment.levels) if slimmed else []),
            *_poor_start(task, experiment.retrain, material, experiment.fresh_supernet),
        ],
    )
    # 2. Figures.
    figures = _figures(compared, material, slim, budget, task.metric)
    paths = {name: save_figure(figure, folder.path / f"{name}.png") for name, figure in figures.items()}
    # 3. Text and curves.
    program = None
    if experiment.classifies_images:
        objective = objective_of(task, budget.graph)
        program = functools.partial(_program, experiment.data, config.export, objective)
    text = _text(config, compared, material, budget, paths, program, folder.path)
    write_atomically(folder.path / "report.md", text)
    write_atomically(folder.path / "report.html", report_page(text, folder.path))
    write_report(folder.path, results, budget.full, slim.resource, material.trajectory, figures)
    listed = {result.label: Path(result.folder).name for result in results}
    return folder.finish({"networks": listed, "report": str(folder.path / "report.html")})


def _poor_start(task: Outputs, options: RetrainConfig, material: Material, fresh: bool) -> Iterator[str]:
    """What is said, here and in the report, where small networks began with a supernet that knew little.

    Args:
        task: what the networks learn.
        options: how small ones were trained.
        material: results of the stages.
        fresh: whether the supernet began with fresh weights.
    """
    full = next((material.finished[name] for name in FULL if name in material.finished), {})
    weights = material.finished.get("supernet", {}) if options.init == "supernet" else {}
    hint = learnt_little(task.metric, weights, full, fresh) if task.classifies else ""
    if hint:
        log.warning("%s", hint)
        yield hint


def _figures(
    compared: Compared, material: Material, slim: SlimConfig, budget: Budget, metric: Metric
) -> dict[str, Figure]:
    """The figures by the names of their files; those that there is nothing to show in are left out."""
    own = compared.results[: len(material.trained)]
    figures = {
        "accuracy": accuracy_against_cost(
            compared.results, material.trajectory, slim.resource, material.test_images
        )
    }
    if any(not KINDS[one.kind].full for one in own):
        figures["channels"] = channels_before_after(_groups(budget.graph), own)
    if material.trajectory:
        figures["search"] = search_curve(material.trajectory, slim.targets, budget.limits, metric)
    if len(compared.judged[0]) >= FEWEST:
        figures["trust"] = supernet_against_retrained(compared.judged[0], metric)
    return figures


def _text(
    config: Config,
    compared: Compared,
    material: Material,
    budget: Budget,
    figures: Mapping[str, Path],
    program: Callable[[str], str] | None,
    folder: Path,
) -> str:
    """The text of report.md."""
    resource, trajectory = budget.resource, material.trajectory
    kind = _front(material.trained, kind_of(config.slim.method))
    passes = {rival.kind: rival.passes for rival in compared.rivals}
    facts = Facts(
        compared.results,
        budget.full,
        arch=config.arch.name,
        dataset=config.dataset.name,
        seed=config.seed,
        test_images=material.test_images,
        resource=resource,
        convention=budget.convention,
        training=compared.training,
        trajectory=trajectory,
        kind=kind,
        passes=passes | ({kind: trajectory.passes} if trajectory else {}),
        judged=compared.judged,
        latency=compared.latency,
        values={n.label: kept_values(n.result) for n in compared.networks},
        bill=material.bill,
        warnings=[*labelled_warnings(material.finished), *compared.warnings],
        groups=_groups(budget.graph),
        not_known=not_known(budget.graph),
        figures={CAPTIONS[name].format(resource=resource): path for name, path in figures.items()},
        program=program,
        command=_command(),
        folder=folder,
    )
    return report_markdown(facts)


def _with_rivals(trained: list[Network], others: list[Rival]) -> list[Network]:
    """This run's networks, and those of other methods that are not among them."""
    named = {(one.kind, one.target) for one in trained}
    found = [one for rival in others for one in rival.networks]
    return [*trained, *(one for one in found if (one.kind, one.target) not in named)]


def _training(results: list[NetworkResult], b: BaselineConfig, r: RetrainConfig) -> str:
    """Which differences between the networks are of their training, not of their channels alone."""
    if all(KINDS[result.kind].full for result in results):
        return ""
    start = STARTS[r.first]
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


def _groups(graph: ChannelGraph) -> list[tuple[str, int]]:
    """(name, channels at full width) of the groups that can be slimmed."""
    return [(group.name, group.size) for group in graph.slimmable]


def _program(data: Dataset, options: ExportConfig, objective: Objective, file: str) -> str:
    """The program that runs a network's Keras file on image files."""
    network = dataclasses.replace(deployment_of(data, options, objective), inside=False, input_size=None)
    return snippet("keras", file, network, data.classes, shown=SHOWN_CLASSES)


def _command() -> str:
    """The command line of this call."""
    program = sys.argv[0]
    head = "python -m autoslim" if program.endswith(("__main__.py", "-c")) else Path(program).name
    return " ".join([head, *(f"'{a}'" if any(m in a for m in "[]{}* ") else a for a in sys.argv[1:])])


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    experiment = run.experiment
    searched = experiment.config.slim.channels is None and {"search", "retrain"} & set(run.stages)
    trajectory = search.search_result(experiment) if searched else None
    material = Material(list(run.trained), dict(run.finished), trajectory, bill(run))
    yield Piece(stage, stage.folder(experiment, material), (material,))


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    if not any_trains_networks(stages):
        raise AutoslimError(ALONE)


def _never(experiment: Experiment, folder: StageFolder, material: Material) -> bool:
    return False


STAGE = Stage(
    "report", report_key, run_report, check=_check, pieces=_pieces, done=_never, alone=True, resumes=False
)
