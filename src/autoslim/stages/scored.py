"""The scores of networks that searches have found, kept line by line while they run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoslim.errors import AutoslimError
from autoslim.slimming.points import Score, Widths
from autoslim.stages.store import StageFolder, append, key_in, write_atomically

SCORED = "scored.jsonl"  # in a search's folder: the networks that it has scored, one a line


class ScoreFile:
    """A file with a line for each network: its widths and its score.

    A line that was cut off, by a kill or a full disk, is passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = True
        self.known: dict[Widths, Score] = {}
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines():
            try:
                record = json.loads(line)
                widths = tuple(record.pop("widths"))
                self.known[widths] = Score(**record)
            except (ValueError, TypeError, KeyError, AttributeError):
                self._whole = False
        self._whole &= text == "" or text.endswith("\n")

    def add(self, widths: Widths, score: Score) -> None:
        """Write one more network."""
        self.known[widths] = score
        if self._whole:
            append(self._path, _line(widths, score))
        else:
            write_atomically(self._path, "".join(_line(*item) for item in self.known.items()))
            self._whole = True


def scored_beside(folder: StageFolder) -> dict[Widths, Score]:
    """What finished searches have scored in the supernet of this one, on the same held-out images.

    A network's score is the same whoever asks for it: so a predictor's networks serve every budget and
    every resource.

    Args:
        folder: of a search; the others lie beside it.
    """
    known: dict[Widths, Score] = {}
    for path in sorted(folder.path.parent.glob(f"{folder.stage}-*/{SCORED}")):
        try:
            other = StageFolder(folder.path.parent, folder.stage, key_in(path.parent))
            whole = other.done and SCORED not in other.damaged()
            if path.parent == other.path != folder.path and whole and _basis(other.key) == _basis(folder.key):
                known |= ScoreFile(path).known
        except (OSError, ValueError, KeyError, TypeError, AutoslimError):
            continue  # they are scored again
    return known


def _basis(key: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the score of a network depends on, by the key of a search."""
    return key["supernet"], key["slim"]["images"], key["slim"]["batch_size"]


def _line(widths: Widths, score: Score) -> str:
    return json.dumps({"widths": list(widths), **score._asdict()}) + "\n"
