"""Channels files, {group name: width}: a search's, a trained network's, and the one `slim.channels` names."""

from __future__ import annotations

import difflib
import logging
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.stages.store import CHANNELS, StageFolder, write_atomically

log = logging.getLogger(__name__)


def write_channels(folder: StageFolder, channels: dict[str, int]) -> None:
    """Write `channels.yaml`, the channels of a trained network, into its folder."""
    write_atomically(folder.path / CHANNELS, yaml.safe_dump(channels, sort_keys=False))


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


def channels_widths(path: str, graph: ChannelGraph) -> np.ndarray:
    """The widths that a channels file gives a network: int32 [G].

    Says so where it leaves out groups, which keep their full width.

    Args:
        path: as `read_channels`.
        graph: of the network.

    Raises:
        AutoslimError: if it cannot be read, or does not fit the network.
    """
    try:
        channels = read_channels(path)
        widths = graph.widths_from(channels)
    except AutoslimError as error:
        known = str(error)
        raise AutoslimError(known if path in known else f"slim.channels={path}: {known}") from error
    missing = [group.name for group in graph.slimmable if group.name not in channels]
    if missing:
        log.warning(
            "slim.channels=%s names %d of the %d channel groups: the others keep their full width (%s).",
            path,
            len(channels),
            len(channels) + len(missing),
            ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else ""),
        )
    return widths
