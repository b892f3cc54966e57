"""Write a model in several formats, run each file by its own runtime, and compare it with the Keras model."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.errors import AutoslimError, first_line
from autoslim.exporting.comparison import Comparison, compare, demand, logits_of
from autoslim.exporting.deployment import Deployment, Images, with_ending
from autoslim.exporting.formats import FORMATS, check_formats
from autoslim.exporting.images import Inputs, check_inputs
from autoslim.exporting.latency import latencies
from autoslim.exporting.metadata import INTO, text_of
from autoslim.exporting.runtimes import call_keras
from autoslim.exporting.snippets import snippet
from autoslim.exporting.writers import Source
from autoslim.startup import quiet

if TYPE_CHECKING:
    import keras

    from autoslim.tasks import AnyTask, Objective


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it did in its own runtime."""

    format: str
    path: Path
    bytes: int  # of the file, or of all files in the folder
    metric: float | None  # of the file, by the task (of classification top-1); None: no labels were given
    largest_difference: float  # of an output from the Keras model's
    agreement: float | None  # share of the images with the Keras model's answer; None: it is values
    latency_ms: float | None  # median for one image on one thread; None: could not be measured (logged)
    latency_spread: float | None = None  # half the quartiles' distance, share of the median


def export(
    model: keras.Model,
    folder: str | os.PathLike[str],
    formats: str | Sequence[str],
    *,
    calibration: Images | None = None,
    images: Images | None = None,
    labels: Any | None = None,
    deployment: Deployment | None = None,
    task: AnyTask = "classification",
) -> list[Exported]:
    """Write `model` in each format, and check each file by running it.

    A file takes its name in the folder only after it was run and found equal to the Keras model; until then,
    and when it is found to differ, what had that name stays.

    Args:
        model: functional, with one input (images) and one output (logits).
        folder: for the files; made if need be.
        formats: some of `FORMATS`: keras, saved_model, litert, litert_float16, litert_int8, onnx.
        calibration: float32 [N, H, W, C], training images normalised as the model was trained; litert_int8
            needs them.
        images: float32 [M, H, W, C], normalised likewise, to check on. None: the calibration images, or 32
            images of noise where there are none.
        labels: integers [M], the images' classes, for top-1; or what another task learns.
        deployment: how images become the model's input, and what classes there are: written next to each
            file (model.onnx.json, and model.onnx.py, a program that runs the file on image files) and inside
            it. With `inside=True` files crop, resize and normalise: `calibration` and `images` are uint8
            [h, w, C] each then. None: nothing is known and nothing is written.

        task: what the network answers, as in `fit`. What `deployment` writes next to a file is for
            classifiers.

    Returns:
        One record for each format, in order.

    Raises:
        AutoslimError: for an unknown format, a missing package, or images that do not fit, before anything is
            written; for a conversion that fails; and for a file whose answers differ from the Keras model's.
    """
    names = check_formats(formats)
    inputs = check_inputs(model, names, calibration, images, labels, deployment)
    objective = _objective(task, model, inputs.labels, deployment)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise AutoslimError(f"{folder} is a file: expected the name of a folder to write the export to.")
    reference = _reference(model, inputs.prepared)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Comparison] = {}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        source = Source(model, inputs.calibration, Path(temporary), deployment)
        for name in names:
            made = Path(temporary) / FORMATS[name].filename
            with quiet():
                _convert(name, source, made)
                found[name] = _check(name, made, inputs, reference, objective, source.deployment is not None)
            extra = []
            if deployment is not None:
                extra = _described(name, made, deployment, found[name], reference.shape[1])
                with quiet():  # once more, as it is now
                    _check(name, made, inputs.first, reference[:1], objective, source.deployment is not None)
            for path in (made, *extra):
                _put(path, folder / path.name)
    paths = {name: folder / FORMATS[name].filename for name in names}
    times = latencies(paths, inputs.images[0][None])
    return [
        Exported(
            name,
            path,
            size(path),
            found[name].metric,
            found[name].largest_difference,
            found[name].agreement,
            *(times[name] or (None, None)),
        )
        for name, path in paths.items()
    ]


def _reference(model: keras.Model, images: Any) -> np.ndarray:
    """The model's own outputs, which those of files are compared with."""
    outputs = logits_of(call_keras(model), images)
    if not np.isfinite(outputs).all():
        raise AutoslimError(
            f"The outputs of model {model.name!r} are not all finite on these images: nothing can be "
            "compared. Check its weights and the normalisation of the images."
        )
    return outputs


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return (
        sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        if path.is_dir()
        else path.stat().st_size
    )


def _convert(name: str, source: Source, path: Path) -> None:
    try:
        FORMATS[name].write(source, path)
    except OSError:
        raise  # a full disk is not the model's fault
    except Exception as error:  # converters raise anything
        raise AutoslimError(
            f"{name}: model {source.model.name!r} cannot be converted ({_in_short(error)}). The format "
            "cannot express one of its layers: leave this format out, or replace the layer."
        ) from error


def _described(name: str, made: Path, deployment: Deployment, found: Comparison, classes: int) -> list[Path]:
    """Put what must be known into a file and next to it; returns the files next to it."""
    metadata = deployment.metadata(name, classes, found.metric, found.images)
    if name in INTO:
        INTO[name](made, metadata)
    about, program = with_ending(made, ".json"), with_ending(made, ".py")
    about.write_text(text_of(metadata), encoding="utf-8")
    file = f"str(Path(__file__).with_name({made.name!r}))"
    program.write_text(snippet(name, file, deployment, classes), encoding="utf-8")
    return [about, program]


def _objective(task: AnyTask, model: keras.Model, labels: Any, deployment: Deployment | None) -> Objective:
    """What the files' answers are judged by; labels, and what is written next to the files, are checked."""
    import tensorflow as tf

    from autoslim.tasks import objective_of

    objective = objective_of(task, model)
    if deployment is not None and objective.main.task.name != "classification":
        raise AutoslimError(
            f"What is written next to a file describes classes, and the task is {objective.main.task.name}: "
            "leave deployment out."
        )
    if labels is not None:
        objective.check(labels)
        objective.fits(tf.convert_to_tensor(labels))
    return objective


def _check(
    name: str,
    path: Path,
    inputs: Inputs,
    reference: np.ndarray,
    objective: Objective,
    inside: bool,
) -> Comparison:
    labels = inputs.labels
    try:
        logits = logits_of(FORMATS[name].open(path), inputs.images)
    except Exception as error:  # runtimes raise anything
        raise AutoslimError(
            f"{name}: the file was written, but its runtime cannot run it ({_in_short(error)}). It was not "
            "kept: leave this format out, or replace the layer that it stumbles over."
        ) from error
    try:
        found = compare(logits, reference, labels, objective)
    except AutoslimError as error:
        raise AutoslimError(f"{name}: {error}") from error
    demand(name, FORMATS[name], found, inside)
    return found


def _in_short(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error) if str(error).strip() else 'no message'}"


def _put(made: Path, path: Path) -> None:
    """Give what was made its name, in place of what had it: one rename for a file, two for a folder."""
    for file in [made, *made.rglob("*")] if made.is_dir() else [made]:
        if file.is_file():
            _flush(file)
    aside = made.with_name(f"{made.name}.before")  # goes with the temporary folder
    if path.is_dir() and not path.is_symlink():
        os.rename(path, aside)
    elif made.is_dir():
        path.unlink(missing_ok=True)
    try:
        os.replace(made, path)
    except OSError:
        if aside.exists():
            shutil.move(aside, path)
        raise


def _flush(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
