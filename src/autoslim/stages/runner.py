"""The runner: does the pieces of work of a stage, each unless it is done, under its folder's lock."""

from __future__ import annotations

import logging
import time
from typing import Any

from autoslim.reporting.terminal import heading
from autoslim.stages.record import Piece, Run, Stage
from autoslim.stages.warn import warnings_of
from autoslim.training.distribution import is_chief, is_multi_worker, wait_for_all

log = logging.getLogger(__name__)


class Runner(Run):
    """Runs stages one after another."""

    def stage(self, stage: Stage) -> None:
        """Run a stage; a network of a kind and target that this run has trained is not trained again."""
        if reason := stage.skip(self.experiment):
            log.info("%s: %s", stage.name, reason)
            return
        for piece in stage.pieces(stage, self):
            if piece.stage.alone and not is_chief(self.experiment.strategy):
                continue
            if piece.network is None:
                self._do(piece)
            elif not any((n.kind, n.target) == piece.network[:2] for n in self.trained):
                self._do(piece)
                self.trained.append(piece.network)

    def _do(self, piece: Piece) -> None:
        """Reuse what a piece of work left, or do it: implied needs are run first, others must be done."""
        stage, folder, experiment = piece.stage, piece.folder, self.experiment
        together = is_multi_worker(experiment.strategy) and not stage.alone
        if not (self._is_done_for_all(piece) if together else self._is_done(piece)):
            for need in stage.needs(experiment):
                if need.stage.implied:
                    self.stage(need.stage)
                need.met()
            with folder.locked(experiment.lock_wait):
                if together or not self._is_done(piece):  # another process may have done it
                    heading(piece.label, str(folder.path))
                    start = time.monotonic()
                    if damaged := folder.damaged():
                        self._remove(piece, damaged)
                    if not stage.resumes:
                        folder.forget()
                    with folder.timed():
                        result = stage.work(experiment, folder, *piece.what)
                    log.info("%s took %.0f s", piece.label, time.monotonic() - start)
                    if together:
                        wait_for_all(experiment.strategy)  # all that the next stage reads is written
                    return self._recorded(piece, result)
        heading(piece.label, f"done before, reused: {folder.path}")
        return self._recorded(piece, folder.result(stage.fields))

    def _is_done(self, piece: Piece) -> bool:
        whole = not piece.folder.damaged()
        return whole and piece.stage.done(self.experiment, piece.folder, *piece.what)

    def _remove(self, piece: Piece, damaged: dict[str, str]) -> None:
        """Name the damaged files of a finished piece of work, and remove them: the rest makes them again."""
        for name, what in damaged.items():
            log.warning("%s %s: %s makes it again.", piece.folder.path / name, what, piece.label)
        piece.folder.remove(damaged)

    def _is_done_for_all(self, piece: Piece) -> bool:
        """Whether it is done, asked when no worker is writing, so that all get the same answer."""
        wait_for_all(self.experiment.strategy)
        answer = self._is_done(piece)
        wait_for_all(self.experiment.strategy)
        return answer

    def _recorded(self, piece: Piece, result: dict[str, Any]) -> None:
        self.folders[piece.label] = piece.folder.path
        self.finished[piece.label] = result
        for text in warnings_of(result):
            log.warning("%s: %s", piece.label, text)
        piece.stage.show(self.experiment, result)
