"""Channels files, {group name: width}: a search's, a trained network's, and the one `slim.channels` names."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoslim.errors import AutoslimError
from autoslim.slimming.trajectory import Point
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import CHANNELS, StageFolder, write_atomically


def write_channels(experiment: Experiment, folder: StageFolder, target: float, point: Point) -> str:
    """Write `channels_<target>.yaml`, {group name: width}, and return its path."""
    c = experiment.config
    path = folder.path / f"channels_{target:g}.yaml"
    channels = experiment.plan.channels(list(point.widths))
    head = (
        f"# {c.arch.name} on {c.dataset.name}: {c.slim.resource} at most {target:g} of the full network's\n"
        f"# {point.cost}\n"
    )
    write_atomically(path, head + yaml.safe_dump(channels, sort_keys=False))
    return str(path)


def write_widths(experiment: Experiment, folder: StageFolder, widths: np.ndarray) -> None:
    """Write `channels.yaml`, the channels of the network at `widths` int32 [G], into its folder."""
    text = yaml.safe_dump(experiment.plan.channels(widths), sort_keys=False)
    write_atomically(folder.path / CHANNELS, text)


def shipped_channels() -> list[str]:
    """Names of the channels files that come with autoslim."""
    folder = resources.files("autoslim.conf").joinpath("channels")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_channels(path: str) -> dict[str, Any]:
    """Read a channels file: {group name: width}.

    Args:
        path: of the file, or the name of one that comes with autoslim, such as autoslim_mobilenet_v2_305m.

    Raises:
        AutoslimError: if it is missing, or not a mapping.
    """
    shipped = resources.files("autoslim.conf").joinpath("channels")
    try:
        text = (shipped.joinpath(f"{path}.yaml") if path in shipped_channels() else Path(path)).read_text()
        channels = yaml.safe_load(text)
    except OSError as error:
        near = difflib.get_close_matches(path, shipped_channels(), 1)
        raise AutoslimError(
            f"slim.channels={path} can't be read: {error.strerror}. A search leaves such files in its "
            f"folder; autoslim comes with {', '.join(near or shipped_channels())}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AutoslimError(f"slim.channels={path} is not valid YAML: {error}.") from error
    if not isinstance(channels, dict) or not channels:
        found = "nothing" if not channels else type(channels).__name__
        raise AutoslimError(f"slim.channels={path} holds {found}; expected lines 'group: width'.")
    return channels


def channels_widths(experiment: Experiment) -> np.ndarray:
    """The widths that the file `slim.channels` names: int32 [G].

    Raises:
        AutoslimError: if it cannot be read, or does not fit the network.
    """
    path = experiment.config.slim.channels
    assert path is not None
    try:
        channels = read_channels(path)
        widths = experiment.plan.widths_from(channels)
        experiment.say_once(_missing(experiment, path, channels))
        return widths
    except AutoslimError as error:
        known = str(error)
        raise AutoslimError(known if path in known else f"slim.channels={path}: {known}") from error


def _missing(experiment: Experiment, path: str, channels: dict[str, Any]) -> str:
    """A sentence for groups that a channels file does not name; "" where it names all."""
    missing = [group.name for group in experiment.plan.slimmable if group.name not in channels]
    if not missing:
        return ""
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return (
        f"slim.channels={path} names {len(channels)} of the {len(channels) + len(missing)} channel groups: "
        f"the others keep their full width ({shown})."
    )
