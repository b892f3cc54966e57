"""Stage `export`: the trained networks in formats for deployment, each file checked by its own runtime."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting import FORMATS, check_formats, export
from autoslim.exporting.comparison import logits_of
from autoslim.exporting.runtimes import call_keras
from autoslim.reporting.exports import CSV_FIELDS, export_csv, export_markdown
from autoslim.reporting.network import in_order
from autoslim.reporting.terminal import progress
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.preflight import reached
from autoslim.stages.store import NETWORK_STAGES, StageFolder, write_atomically
from autoslim.stages.wanted import baseline, uniform, wanted

FOLDER = "export"  # within the folder of each network

NOTHING = (
    "The export found no trained network of this configuration: expected baseline, retrain or uniform to be "
    "done, or among the stages: stages=[baseline,supernet,search,retrain,uniform,export] (what is done is "
    "reused)."
)


def check_export(experiment: Experiment, stages: Sequence[str]) -> None:
    """Refuse before any training what the export could not do after it.

    Raises:
        AutoslimError: for a missing package, or where there is and will be no network.
    """
    check_formats(experiment.config.export.formats)
    if not set(NETWORK_STAGES) & set(stages) and not done_networks(experiment):
        raise AutoslimError(NOTHING)


def done_networks(experiment: Experiment) -> list[Network]:
    """The networks of this configuration that are trained: the baseline first, then by target."""
    trajectory = None if experiment.config.slim.channels else reached(experiment)
    found = [baseline(experiment), *wanted(experiment, trajectory), *uniform(experiment, refuse=False)]
    done = [network for network in in_order(found) if network.done]
    return list({network.trained_in.path: network for network in done}.values())


def export_folder(experiment: Experiment, networks: Sequence[Network]) -> StageFolder:
    """The folder of the comparison of these networks' files."""
    key = {
        "networks": [[network.label, network.trained_in.path.name] for network in networks],
        "export": dataclasses.asdict(experiment.config.export),
    }
    return StageFolder(experiment.root, "export", key)


def is_exported(folder: StageFolder) -> bool:
    """Whether the stage is done and all its files stand, none of them removed since."""
    return folder.done and all(
        (folder.path / row["path"]).exists() for row in folder.result(("rows",))["rows"]
    )


def run_export(experiment: Experiment, folder: StageFolder, networks: Sequence[Network]) -> dict[str, Any]:
    """Export each network into the folder `export` within its own, and write the comparison.

    Nothing is resumed within it: files that stand are made anew.

    Raises:
        AutoslimError: for a network that cannot be read, and as `autoslim.export`.
    """
    if not networks:
        raise AutoslimError(NOTHING)
    formats = experiment.config.export.formats
    images, labels = _test_images(experiment)
    calibration = _calibration_images(experiment) if any(FORMATS[f].calibrated for f in formats) else None
    rows: list[dict[str, Any]] = []
    with progress("export", total=len(networks), unit="network") as advance:
        for network in networks:
            with network.trained_in.locked(experiment.lock_wait):
                rows += _exported(network, folder, formats, calibration, images, labels)
            advance()
    count = None if calibration is None else len(calibration)
    write_atomically(folder.path / "export.csv", export_csv(rows))
    write_atomically(folder.path / "export.md", export_markdown(rows, len(images), count))
    return folder.finish({"rows": rows, "test_images": len(images), "calibration_images": count})


def _exported(
    network: Network,
    folder: StageFolder,
    formats: Sequence[str],
    calibration: np.ndarray | None,
    images: np.ndarray,
    labels: np.ndarray,
) -> list[dict[str, Any]]:
    """The rows of one network, with `CSV_FIELDS`; paths are relative to the comparison's folder."""
    model = network.model()
    try:
        found = export(
            model,
            network.trained_in.path / FOLDER,
            formats,
            calibration=calibration,
            images=images,
            labels=labels,
        )
    except AutoslimError as error:
        raise AutoslimError(f"{network.label}, {network.trained_in.path}: {error}") from error
    answers = logits_of(call_keras(model), images).argmax(-1)
    rows = []
    for exported in found:
        row = {**dataclasses.asdict(exported), "network": network.label}
        row["keras_top1"] = float(np.mean(answers == labels))
        row["path"] = Path(os.path.relpath(exported.path, folder.path)).as_posix()
        rows.append({name: row[name] for name in CSV_FIELDS})
    return rows


def _test_images(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Normalised test images float32 [N, H, W, C], balanced over the classes, and their labels."""
    config = experiment.config
    return experiment.data.sample(config.export.images, train=False, seed=config.seed)


def _calibration_images(experiment: Experiment) -> np.ndarray:
    """Normalised training images float32 [N, H, W, C], balanced over the classes, not augmented."""
    config = experiment.config
    return experiment.data.sample(config.export.calibration_images, train=True, seed=config.seed)[0]
