"""Checkpoints of a training: weights, optimizer and progress together, so that it goes on bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError, first_line

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

    The variables are tracked as explicit lists: Keras's own tracking of a model forgets the state of
    dropout's seed generators. A fixed learning rate is not kept: the one that the optimizer was made with
    holds.

    Args:
        folder: made if need be.
        model: whose variables, moving statistics and seed generators included, are kept.
        optimizer: built; None: the model alone.
        keep: how many checkpoints are kept, the last ones.
        writes: whether this process writes; else it reads what another one writes.

    Raises:
        AutoslimError: if the folder can't be made.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        *,
        keep: int = KEEP,
        writes: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self._writes = writes
        model_variables = list(model.variables)
        kept = optimizer.variables if optimizer else []
        optimizer_variables = [v for v in kept if not v.path.endswith("/learning_rate")]
        self._variables = [*model_variables, *optimizer_variables]
        self._layout = [[v.path, list(v.shape)] for v in self._variables]
        self._state = _Json()
        self._layout_only = tf.train.Checkpoint(state=self._state)
        self._checkpoint = tf.train.Checkpoint(
            model=model_variables, optimizer=optimizer_variables, state=self._state
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AutoslimError(self._unwritable(error.strerror or str(error))) from error
        if writes:
            self._list_complete()
            self._manager = tf.train.CheckpointManager(self._checkpoint, str(self.folder), max_to_keep=keep)

    def save(self, progress: dict[str, Any]) -> None:
        """Write a checkpoint; `progress` is JSON-able.

        Raises:
            AutoslimError: if a weight is no longer finite, or the folder can't be written; the last good
                checkpoint then stays.
        """
        if not _finite(self._variables):
            raise AutoslimError(
                f"Weights became NaN or infinite in or before step {progress.get('step')}. {self.kept()}"
                "Lower optimizer.learning_rate, or set optimizer.clipnorm."
            )
        if not self._writes:
            return
        self._state.data = {"progress": progress, "layout": self._layout}
        try:
            self._manager.save()
        except (tf.errors.OpError, OSError) as error:
            raise AutoslimError(self._unwritable(first_line(error, 160))) from error

    def kept(self) -> str:
        """A sentence that says where the last checkpoint is, or nothing where there is none yet."""
        return f"The last good checkpoint is kept in {self.folder}. " if self._complete() else ""

    def restore(self) -> dict[str, Any] | None:
        """Read the newest checkpoint into model and optimizer: its progress, or None if there is none.

        Raises:
            AutoslimError: for a damaged checkpoint, or one of another network or optimizer.
        """
        found = self._complete()
        if not found:
            return None
        path = found[-1]
        try:
            self._layout_only.read(path).expect_partial()
            layout, progress = self._state.data["layout"], self._state.data["progress"]
            self._compare_layout(path, layout)
            self._checkpoint.restore(path).assert_consumed()
        except AutoslimError:
            raise
        except (tf.errors.OpError, LookupError, ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise AutoslimError(self._damaged(found, first_line(error, 160))) from error
        return progress

    def _complete(self) -> list[str]:
        """Paths of the checkpoints that are there, oldest first: an index file is written last."""
        numbers = [path.stem.removeprefix("ckpt-") for path in self.folder.glob("ckpt-*.index")]
        return [str(self.folder / f"ckpt-{n}") for n in sorted(int(n) for n in numbers if n.isdigit())]

    def _list_complete(self) -> None:
        """Sweep up after a kill, and make TensorFlow's list of checkpoints say what is there."""
        self._sweep_unfinished()
        found = self._complete()
        try:
            state = tf.train.get_checkpoint_state(str(self.folder))
            listed = list(state.all_model_checkpoint_paths) if state else []
        except (ValueError, tf.errors.OpError):  # damaged
            listed = ["?"]
        if listed == found:
            return
        if found:
            times = [Path(f"{path}.index").stat().st_mtime for path in found]
            tf.compat.v1.train.update_checkpoint_state(
                str(self.folder), found[-1], found, all_model_checkpoint_timestamps=times
            )
        else:
            (self.folder / "checkpoint").unlink(missing_ok=True)

    def _compare_layout(self, path: str, saved: list[Any]) -> None:
        if [shape for _, shape in saved] == [shape for _, shape in self._layout]:
            return
        there, here = f"{len(saved)} variables", f"{len(self._layout)}"
        for (old, old_shape), (new, new_shape) in zip(saved, self._layout, strict=False):
            if old_shape != new_shape:
                there, here = f"{old} of shape {old_shape}", f"{new} of shape {new_shape}"
                break
        raise AutoslimError(
            f"Checkpoint {path} is of another network or optimizer: it holds {there}, this one has {here}. "
            f"Remove the folder {self.folder}, or choose another with output=FOLDER."
        )

    def _damaged(self, found: list[str], why: str) -> str:
        back = f"Remove {found[-1]}.* to go on from {found[-2]}, or" if len(found) > 1 else "Remove"
        return (
            f"Checkpoint {found[-1]} is damaged ({why}). {back} the folder {self.folder} to train this stage "
            "from its beginning."
        )

    def _unwritable(self, why: str) -> str:
        return (
            f"Can't write checkpoints into {self.folder} ({why}). Make room or give leave to write there, or "
            "choose another folder with output=FOLDER; the same command then goes on from the last good "
            "checkpoint."
        )

    def _sweep_unfinished(self) -> None:
        """Remove what a kill in the middle of a save left behind."""
        for path in self.folder.glob("*_temp*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for path in self.folder.glob("checkpoint.tmp*"):
            path.unlink(missing_ok=True)


def _finite(variables: list[Any]) -> bool:
    """Whether all floating-point variables are finite, asked of the device once."""
    values = [tf.convert_to_tensor(v) for v in variables if "float" in v.dtype]
    return bool(tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(value)) for value in values])))
