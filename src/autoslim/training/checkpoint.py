"""Checkpoints of a training: weights, optimizer and progress together, so that it goes on bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError

KEEP = 2


class _Json(tf.train.experimental.PythonState):
    """A JSON-able dict that travels inside the checkpoint."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def serialize(self) -> bytes:
        return json.dumps(self.data).encode()

    def deserialize(self, string_value: bytes) -> None:
        self.data = json.loads(string_value)


class Checkpoints:
    """Saves and restores a model, its optimizer and a dict of progress in one folder.

    The variables are tracked as explicit lists: Keras's own tracking of a model forgets the state of dropout's
    seed generators.

    Args:
        folder: made if need be; the last two checkpoints are kept.
        model: whose variables, moving statistics and seed generators included, are kept.
        optimizer: built.
    """

    def __init__(
        self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer
    ) -> None:
        self.folder = Path(folder)
        model_variables, optimizer_variables = list(model.variables), list(optimizer.variables)
        self._layout = [[v.path, list(v.shape)] for v in (*model_variables, *optimizer_variables)]
        self._variables = model_variables
        self._state = _Json()
        checkpoint = tf.train.Checkpoint(
            model=model_variables, optimizer=optimizer_variables, state=self._state
        )
        self._layout_only = tf.train.Checkpoint(state=self._state)
        self._checkpoint = checkpoint
        self._manager = tf.train.CheckpointManager(checkpoint, str(self.folder), max_to_keep=KEEP)

    def save(self, progress: dict[str, Any]) -> None:
        """Write a checkpoint; `progress` is JSON-able.

        Raises:
            AutoslimError: if a weight is no longer finite; the last good checkpoint then stays.
        """
        if not all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in self._variables if v.dtype == "float32"):
            raise AutoslimError(
                f"Weights became NaN or infinite before step {progress.get('step')}. The last good checkpoint is in "
                f"{self.folder}. Lower optimizer.learning_rate, or set optimizer.clipnorm."
            )
        self._state.data = {"progress": progress, "layout": self._layout}
        self._manager.save()

    def restore(self) -> dict[str, Any] | None:
        """Read the newest checkpoint into model and optimizer: its progress, or None if there is none.

        Raises:
            AutoslimError: for a damaged checkpoint, or one of another network or optimizer.
        """
        self._sweep_unfinished()
        path = self._manager.latest_checkpoint
        if path is None:
            return None
        try:
            self._layout_only.read(path).expect_partial()
            self._compare_layout(path)
            self._checkpoint.restore(path).assert_consumed()
        except (tf.errors.OpError, IndexError, ValueError, AssertionError, json.JSONDecodeError) as error:
            if isinstance(error, AutoslimError):
                raise
            raise AutoslimError(
                f"Checkpoint {path} is damaged ({str(error).splitlines()[0][:120]}). Remove the folder "
                f"{self.folder} to train this stage anew."
            ) from error
        return self._state.data["progress"]

    def _compare_layout(self, path: str) -> None:
        saved = self._state.data.get("layout", [])
        if [shape for _, shape in saved] == [shape for _, shape in self._layout]:
            return
        pairs = zip(saved, self._layout, strict=False)
        there, here = next(
            ((a, b) for a, b in pairs if a[1] != b[1]), (f"{len(saved)} weights", f"{len(self._layout)}")
        )
        raise AutoslimError(
            f"Checkpoint {path} is of another network or optimizer: it holds {there}, this one has {here}. "
            f"Remove the folder {self.folder}, or choose another with output=FOLDER."
        )

    def _sweep_unfinished(self) -> None:
        """Remove what a kill in the middle of a save left behind."""
        for path in self.folder.glob("*_temp*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
