"""Stage `export`: the trained networks in formats for deployment, each file checked by its own runtime."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autoslim.datasets import Dataset
from autoslim.datasets.labels import count as count_of
from autoslim.errors import AutoslimError
from autoslim.exporting import FORMATS, check_formats, export
from autoslim.exporting.comparison import logits_of
from autoslim.exporting.deployment import Deployment, Images
from autoslim.exporting.formats import check_sizes
from autoslim.exporting.runtimes import call_keras
from autoslim.exporting.snippets import SHOWN_CLASSES, snippet
from autoslim.reporting.exports import CSV_FIELDS, export_csv, export_markdown, export_table
from autoslim.reporting.network import in_order
from autoslim.reporting.terminal import progress, show
from autoslim.schema.export import ExportConfig
from autoslim.scoring import unweighted
from autoslim.stages import baseline, given
from autoslim.stages.deployment import deployment_of, reaching
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network, full_network
from autoslim.stages.record import Piece, Run, Stage, any_trains_networks
from autoslim.stages.search import trajectory_if_done
from autoslim.stages.store import StageFolder, write_atomically
from autoslim.stages.wanted import uniform, wanted
from autoslim.tasks import Outputs, objective_of

FOLDER = "export"  # within the folder of each network; see `_files_folder`

NOTHING = (
    "The export found no trained network of this configuration: expected baseline, retrain or uniform to be "
    "done, or among the stages: stages=[baseline,supernet,search,retrain,uniform,export] (what is done is "
    "reused)."
)


ONLY_CLASSIFIERS = (
    "export.preprocessing=inside is for networks of one image and one value for each class, and this network "
    "is another one: choose export.preprocessing=outside."
)


ONE_EACH = (
    "Stage export writes and checks networks of one input and one output, and this one has several. Leave "
    "export out of stages: every trained network stands in its folder as model.keras, which loads without "
    "autoslim."
)


def check_export(experiment: Experiment, stages: Sequence[str]) -> None:
    """Refuse before any training what the export could not do after it.

    Raises:
        AutoslimError: for a missing package, or where there is and will be no network.
    """
    config = experiment.config.export
    if not (experiment.classifies_images or config.preprocessing == "outside"):
        raise AutoslimError(ONLY_CLASSIFIERS)
    model = experiment.plan.model
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise AutoslimError(ONE_EACH)
    names = check_formats(config.formats)
    if config.preprocessing == "inside" and config.input_size is None:
        check_sizes(names, "export.input_size")
    if not any_trains_networks(stages) and not done_networks(experiment):
        raise AutoslimError(NOTHING)


def done_networks(experiment: Experiment) -> list[Network]:
    """The networks of this configuration that are trained: the full ones first, then by target."""
    trajectory = None if experiment.config.slim.channels else trajectory_if_done(experiment)
    full = [given.STAGE, baseline.STAGE] if experiment.given else [baseline.STAGE]
    found = [full_network(stage.folder(experiment), experiment.own_widths) for stage in full]
    found += [*wanted(experiment, trajectory), *uniform(experiment, refuse=False)]
    done = [network for network in in_order(found) if network.done]
    return list({network.trained_in.path: network for network in done}.values())


def export_key(experiment: Experiment, networks: Sequence[Network]) -> dict[str, Any]:
    """What the comparison of these networks' files depends on."""
    return {
        "networks": [[network.label, network.trained_in.path.name] for network in networks],
        "export": dataclasses.asdict(experiment.config.export),
    }


def run_export(experiment: Experiment, folder: StageFolder, networks: Sequence[Network]) -> dict[str, Any]:
    """Export each network into a folder within its own, and write the comparison.

    Nothing is resumed within it: files that stand are made again.

    Raises:
        AutoslimError: for a network that cannot be read, and as `autoslim.export`.
    """
    if not networks:
        raise AutoslimError(NOTHING)
    options, data, task = experiment.config.export, experiment.data, experiment.task
    # 1. Write and check the files.
    sample = _sample(data, options, experiment.config.seed)
    deployment: Deployment | None = None
    if experiment.classifies_images:
        deployment = deployment_of(data, options, objective_of(task, experiment.plan))
    rows: list[dict[str, Any]] = []
    with progress("export", total=len(networks), unit="network") as advance:
        for network in networks:
            with network.trained_in.locked(experiment.lock_wait):
                rows += _exported(network, folder.path, options, sample, deployment, task)
            advance()
    # 2. Write the comparison.
    count = None if sample.calibration is None else len(sample.calibration)
    tested, inside = count_of(sample.labels), options.preprocessing == "inside"
    programs = {}
    if deployment is not None:
        programs = {
            name: snippet(name, file, deployment, data.classes, shown=SHOWN_CLASSES)
            for name, file in _chosen(rows).items()
        }
    write_atomically(folder.path / "export.csv", export_csv(rows))
    write_atomically(
        folder.path / "export.md",
        export_markdown(rows, tested, count, programs, inside=inside, measure=task.metric),
    )
    return folder.finish({"rows": rows, "test_images": tested, "calibration_images": count})


def _chosen(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Format -> the file that a program is shown for, as an expression: of the first slimmed network."""
    slim = [row for row in rows if row["network"] != "baseline"] or rows
    first = [row for row in slim if row["network"] == slim[0]["network"]]
    return {row["format"]: repr(row["path"]) for row in first}


def _files_folder(export: ExportConfig) -> str:
    """The folder of a network's files: files that take other inputs never replace each other.

    >>> _files_folder(ExportConfig(preprocessing="inside", input_size=[64, 48]))
    'export-inside-64x48'
    """
    parts = [FOLDER, *(["inside"] if export.preprocessing == "inside" else [])]
    return "-".join([*parts, *(["x".join(map(str, export.input_size))] if export.input_size else [])])


class Sample(NamedTuple):
    """Images to check and to calibrate with."""

    images: Images  # as files take them: normalised float32 [H, W, C], or uint8 [h, w, C]
    calibration: Images | None  # likewise; None: no format needs them
    normalised: np.ndarray  # the same images as the Keras models take them, float32 [N, H, W, C]
    labels: Any  # int32 [N], or what another task learns


def _sample(data: Dataset, options: ExportConfig, seed: int) -> Sample:
    """Test images and training images (not augmented), balanced over the classes."""
    sample: Callable[..., tuple[Images, np.ndarray]] = data.sample
    if options.preprocessing == "inside":
        sample = data.sample_pixels
    calibration = None
    if any(FORMATS[name].calibrated for name in options.formats):
        calibration = sample(options.calibration_images, train=True, seed=seed)[0]
    images, labels = sample(options.images, train=False, seed=seed)
    normalised = data.sample(options.images, train=False, seed=seed)[0]
    return Sample(images, calibration, normalised, unweighted(labels)[0])


def _exported(
    network: Network,
    folder: Path,
    options: ExportConfig,
    sample: Sample,
    deployment: Deployment | None,
    task: Outputs,
) -> list[dict[str, Any]]:
    """The rows of one network, with `CSV_FIELDS`; paths are relative to `folder`, the comparison's."""
    model = network.model()
    try:
        found = export(
            model,
            network.trained_in.path / _files_folder(options),
            options.formats,
            calibration=sample.calibration,
            images=sample.images,
            labels=sample.labels,
            deployment=None if deployment is None else reaching(deployment, network.result),
            task=task,
        )
    except AutoslimError as error:
        raise AutoslimError(f"{network.label}, {network.trained_in.path}: {error}") from error
    answers = logits_of(call_keras(model), sample.normalised)
    objective = objective_of(task, model)
    rows = []
    for exported in found:
        row = {**dataclasses.asdict(exported), "network": network.label}
        row["keras_metric"] = float(np.mean(objective.scored(sample.labels, answers)))
        row["path"] = Path(os.path.relpath(exported.path, folder)).as_posix()
        rows.append({name: row[name] for name in CSV_FIELDS})
    return rows


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    networks = done_networks(run.experiment)  # by all workers: a network is built by all of them or none
    yield Piece(stage, stage.folder(run.experiment, networks), (networks,))


def _done(experiment: Experiment, folder: StageFolder, networks: Sequence[Network]) -> bool:
    """Whether the stage is done and all its files stand, none of them removed since."""
    return folder.done and all(
        (folder.path / row["path"]).exists() for row in folder.result(("rows",))["rows"]
    )


def _show(experiment: Experiment, result: dict[str, Any]) -> None:
    show(export_table(result["rows"], experiment.task.metric))


STAGE = Stage(
    "export",
    export_key,
    run_export,
    check=check_export,
    pieces=_pieces,
    done=_done,
    fields=("rows",),
    alone=True,
    resumes=False,
    with_given=False,
    show=_show,
)
