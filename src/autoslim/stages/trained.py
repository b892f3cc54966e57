"""A trained network as the report and the final table read it."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from autoslim.errors import AutoslimError, first_line
from autoslim.reporting.network import NetworkResult
from autoslim.slimming.latency import whole_milliseconds
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import CHANNELS, MODEL, StageFolder


class Trained(NamedTuple):
    """A trained network, and all that its stage wrote."""

    network: NetworkResult
    result: dict[str, Any]  # result.json, with `store.NETWORK_FIELDS`


def trained(
    experiment: Experiment,
    kind: str,
    target: float | None,
    widths: np.ndarray,
    folder: StageFolder,
    result: dict[str, Any],
) -> Trained:
    """A network of a finished stage.

    Args:
        experiment: of the run.
        kind: of the network, a key of `kinds.KINDS`.
        target: share of the full network's resource that was asked for; None: the full network.
        widths: int32 [G].
        folder: of the stage that trained it.
        result: what that wrote.
    """
    paths = {"model": folder.path / MODEL, "channels": folder.path / CHANNELS}
    network = NetworkResult(
        kind,
        target,
        channels=experiment.plan.channels(widths),
        folder=str(folder.path),
        files={name: str(path) for name, path in paths.items() if path.exists()},
        latency=experiment.budget.cost(widths).latency,
        measured_latency=_measured_latency(experiment, folder),
        **{name: result[name] for name in ("top1", "loss", "flops", "params", "memory")},
    )
    return Trained(network, result)


def load_network(folder: StageFolder) -> keras.Model:
    """The network that a stage trained.

    Raises:
        AutoslimError: if its file cannot be read.
    """
    path = folder.path / MODEL
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AutoslimError(
            f"The network in {path} cannot be read ({first_line(error, 120)}). Remove the folder "
            f"{folder.path} to run stage {folder.stage} anew."
        ) from error


def _measured_latency(experiment: Experiment, folder: StageFolder) -> float | None:
    """Milliseconds of a trained network, measured whole on this device, where latency is limited."""
    if experiment.latency is None:
        return None
    return whole_milliseconds(load_network(folder))
