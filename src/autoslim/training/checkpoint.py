"""Checkpoints of a training: weights, optimizer and progress together, so that it goes on bit for bit."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError, first_line
from autoslim.writing import system_reason, write_whole

log = logging.getLogger(__name__)

KEEP = 2
_UNREADABLE = (
    tf.errors.OpError,
    LookupError,
    ValueError,
    TypeError,
    AssertionError,
    RuntimeError,
)
"""What TensorFlow and JSON raise for a checkpoint that can't be read whole."""

_END_OF_INDEX = bytes.fromhex("57fb808b247547db")
"""The last bytes of every sorted string table, the format of a checkpoint's index."""


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
        self._keep = keep
        if writes:
            self._sweep_unfinished()
            self._manager = self._new_manager()

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
            self._sweep_unfinished()  # where TensorFlow could not remove its own
        except (tf.errors.OpError, OSError) as error:
            raise AutoslimError(self._unwritable(system_reason(error) or first_line(error, 400))) from error

    def kept(self) -> str:
        """A sentence that says where the last checkpoint is, or nothing where there is none yet."""
        return f"The last good checkpoint is kept in {self.folder}. " if self._complete() else ""

    def restore(self) -> dict[str, Any] | None:
        """Read the newest checkpoint that is whole into model and optimizer.

        What was not written to its end, or is damaged while an older whole one exists, is named in the log
        and removed.

        Returns:
            Its progress, or None if there is none: nothing was saved, or the first one was not written to its
            end.

        Raises:
            AutoslimError: for checkpoints that were finished and are all damaged, or one of another network
                or optimizer.
        """
        broken: list[tuple[str, str]] = []  # (path, why)
        for path in reversed(self._complete()):
            try:
                progress = self._read(path)
            except _UNREADABLE as error:
                if isinstance(error, AutoslimError):
                    raise
                broken.append((path, first_line(error, 160)))
                continue
            self._drop(broken, f"Going on from {path}.")
            return progress
        if all(_is_unfinished(path) for path, _ in broken):
            self._drop(broken, "Training begins at its first step.")
            return None
        raise AutoslimError(self._damaged(*broken[0]))

    def _read(self, path: str) -> dict[str, Any]:
        self._layout_only.read(path).expect_partial()
        layout, progress = self._state.data["layout"], self._state.data["progress"]
        self._compare_layout(path, layout)
        self._checkpoint.restore(path).assert_consumed()
        return progress

    def _drop(self, broken: list[tuple[str, str]], then: str) -> None:
        """Name the checkpoints that can't be used, and remove them."""
        for path, why in broken:
            what = "was not written to its end" if _is_unfinished(path) else f"is damaged ({why})"
            log.warning("Checkpoint %s %s and is removed. %s", path, what, then)
        if not (broken and self._writes):
            return
        for path, _ in broken:
            for file in self.folder.glob(f"{Path(path).name}.*"):
                file.unlink(missing_ok=True)
        self._manager = self._new_manager()

    def _new_manager(self) -> tf.train.CheckpointManager:
        self._list_complete()
        return tf.train.CheckpointManager(self._checkpoint, str(self.folder), max_to_keep=self._keep)

    def _complete(self) -> list[str]:
        """Paths of the checkpoints that are there, oldest first: an index file is written last."""
        numbers = [path.stem.removeprefix("ckpt-") for path in self.folder.glob("ckpt-*.index")]
        return [str(self.folder / f"ckpt-{n}") for n in sorted(int(n) for n in numbers if n.isdigit())]

    def _list_complete(self) -> None:
        """Make TensorFlow's list of checkpoints say what is there."""
        found = self._complete()
        try:
            state = tf.train.get_checkpoint_state(str(self.folder))
            listed = list(state.all_model_checkpoint_paths) if state else []
        except (ValueError, tf.errors.OpError):  # damaged
            listed = ["?"]
        if listed == found:
            return
        if found:
            lines = [f'model_checkpoint_path: "{Path(found[-1]).name}"']
            for path in found:
                lines.append(f'all_model_checkpoint_paths: "{Path(path).name}"')
                lines.append(f"all_model_checkpoint_timestamps: {Path(f'{path}.index').stat().st_mtime}")
            write_whole(self.folder / "checkpoint", "\n".join(lines) + "\n")
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

    def _damaged(self, path: str, why: str) -> str:
        return (
            f"Checkpoint {path} is damaged ({why}). Put back the file as it was, or remove the folder "
            f"{self.folder} to train this stage from its beginning."
        )

    def _unwritable(self, why: str) -> str:
        return (
            f"Can't write checkpoints into {self.folder} ({why}). Make room or give leave to write there, or "
            "choose another folder with output=FOLDER; the same command then goes on from the last good "
            "checkpoint."
        )

    def _sweep_unfinished(self) -> None:
        """Remove what a kill in the middle of a save, or a disk that failed then, left behind."""
        for path in self.folder.glob("*_temp*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for path in self.folder.glob("checkpoint.tmp*"):
            path.unlink(missing_ok=True)


def _is_unfinished(path: str) -> bool:
    """Whether the index of a checkpoint, which is written last, lacks its end."""
    return not Path(f"{path}.index").read_bytes().endswith(_END_OF_INDEX)


def _finite(variables: list[Any]) -> bool:
    """Whether all floating-point variables are finite, asked of the device once."""
    values = [tf.convert_to_tensor(v) for v in variables if "float" in v.dtype]
    return bool(tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(value)) for value in values])))
