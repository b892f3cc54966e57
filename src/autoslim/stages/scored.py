"""The scores of networks that a search has found, kept line by line while it runs."""

from __future__ import annotations

import json
from pathlib import Path

from autoslim.slimming.points import Score, Widths
from autoslim.stages.store import append, write_atomically


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


def _line(widths: Widths, score: Score) -> str:
    return json.dumps({"widths": list(widths), **score._asdict()}) + "\n"
