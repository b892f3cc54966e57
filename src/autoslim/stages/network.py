"""One network of a run: wanted, trained, exported and compared as the same record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from autoslim.errors import AutoslimError, first_line
from autoslim.kinds import KINDS
from autoslim.stages.store import MODEL, NETWORK_FIELDS, StageFolder


class Network(NamedTuple):
    """A network that a stage trains, has trained, or that is still to be found."""

    kind: str  # a key of `kinds.KINDS`
    target: float | None  # share of the full network's resource that was asked for; None: the full network
    widths: np.ndarray | None  # int32 [G]; None: the search is not done
    folder: StageFolder | None  # of the stage that trains it; None: its widths are not known

    @property
    def name(self) -> str:
        """Its target as it stands in labels of stages and names of files: "0.5"; "" for the full network."""
        return "" if self.target is None else f"{self.target:g}"

    @property
    def label(self) -> str:
        """Its name for people: "baseline", "AutoSlim 0.5"."""
        return f"{KINDS[self.kind].label} {self.name}".rstrip()

    @property
    def work(self) -> str:
        """The label of the work that trains it: "retrain 0.5"."""
        return f"{self.trained_in.stage} {self.name}".rstrip()

    @property
    def done(self) -> bool:
        """Whether it is trained."""
        return self.folder is not None and self.folder.done

    @property
    def result(self) -> dict[str, Any]:
        """What its stage wrote, with `store.NETWORK_FIELDS`.

        Raises:
            AutoslimError: if that is damaged.
        """
        return self.trained_in.result(NETWORK_FIELDS)

    @property
    def known_widths(self) -> np.ndarray:
        """Its widths int32 [G]; they must be known."""
        assert self.widths is not None
        return self.widths

    @property
    def trained_in(self) -> StageFolder:
        """The folder of the stage that trains it; its widths must be known."""
        assert self.folder is not None
        return self.folder

    def model(self) -> keras.Model:
        """The trained network.

        Raises:
            AutoslimError: if its file cannot be read.
        """
        folder = self.trained_in
        path = folder.path / MODEL
        try:
            return keras.saving.load_model(path, compile=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AutoslimError(
                f"The network in {path} cannot be read ({first_line(error, 120)}). Remove the folder "
                f"{folder.path} to run stage {folder.stage} again."
            ) from error


def full_network(folder: StageFolder, widths: np.ndarray) -> Network:
    """The full network, at these widths int32 [G], which is named as the kind of the stage that brings it."""
    return Network(folder.stage, None, widths, folder)


def distinct(networks: Sequence[Network]) -> list[Network]:
    """The networks whose widths are known, each once, by the first of its targets."""
    found: list[Network] = []
    for network in networks:
        if network.widths is None:
            continue
        if not any(np.array_equal(network.widths, other.known_widths) for other in found):
            found.append(network)
    return found
