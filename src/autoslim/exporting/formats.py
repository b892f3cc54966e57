"""The table of formats: what a file is called, what it takes to write and run it, how close it must come.

Nothing here imports TensorFlow or a converter: they are loaded when a format is written or run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from autoslim.errors import AutoslimError, near
from autoslim.exporting.runtimes import Runtime, open_keras, open_litert, open_onnx, open_saved_model
from autoslim.exporting.writers import (
    Source,
    write_keras,
    write_litert,
    write_litert_float16,
    write_litert_int8,
    write_onnx,
    write_saved_model,
)

FLOAT32_SHARE = 1e-4
"""Largest difference of logits in float32, as a share of their scale.

A runtime adds up in another order and folds batch norm into the weights: a few times 1e-7 of the scale, which
grows slowly with depth. What is really wrong (a padding, an epsilon, an old weight) shows at 1e-3 and above.
"""

FLOAT16_SHARE = 1e-2
"""The same where weights are kept in float16.

Rounding to 11 bits moves each weight by up to 5e-4 of itself; over a network that is some 1e-4 to 1e-3 of the
scale, and a few times as much on processors that compute in float16 too.
"""

INSIDE_SHARE = 1e-2
"""The same in float32 where the file crops and resizes.

A pixel that falls halfway between two levels may be rounded to either. Another window or kernel moves most
pixels, and shows at 0.1 of the scale.
"""

INT8_AGREEMENT = 0.95
"""Smallest share of images for which a quantised network names the class that the Keras model names.

Eight bits move logits by some per cent of their scale, so that a bound on the difference says little; what a
classifier is used for is its answer. Images between two classes may change sides; one in twenty is a defect
of the calibration. Where there are fewer than 20 images, one may differ.
"""

INT8_LOSS = 0.02
"""Largest fall of a quantised network's top-1: two points; one image where there are fewer than 50."""


INT8_WORSE = 0.1
"""Largest worsening of a quantised network's metric where that is not a share: a tenth of it."""


class Format(NamedTuple):
    """A kind of file."""

    filename: str  # in the folder of the export
    write: Callable[[Source, Path], None]
    open: Callable[[Path], Runtime]  # by the format's own runtime, one thread where it lets us choose
    share: float | None  # largest difference as a share of the logits' scale; None: answers are compared
    packages: tuple[str, ...] = ()  # modules beyond TensorFlow without which it does not work
    calibrated: bool = False  # whether writing it needs images
    float32: bool = True  # whether the model must compute in float32
    any_size: bool = True  # whether, with the preprocessing inside, it takes images of any size


FORMATS: dict[str, Format] = {
    "keras": Format("model.keras", write_keras, open_keras, FLOAT32_SHARE, float32=False),
    "saved_model": Format("saved_model", write_saved_model, open_saved_model, FLOAT32_SHARE, float32=False),
    "litert": Format("model.tflite", write_litert, open_litert, FLOAT32_SHARE),
    "litert_float16": Format(
        "model_float16.tflite", write_litert_float16, open_litert, FLOAT16_SHARE, any_size=False
    ),
    "litert_int8": Format(
        "model_int8.tflite", write_litert_int8, open_litert, None, calibrated=True, any_size=False
    ),
    "onnx": Format(
        "model.onnx",
        write_onnx,
        open_onnx,
        FLOAT32_SHARE,
        packages=("tf2onnx", "onnx", "onnxruntime"),
    ),
}
"""Every format by name."""


def check_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """The formats asked for, each once, in the order given.

    >>> check_formats(["litert", "keras", "litert"])
    ('litert', 'keras')

    Raises:
        AutoslimError: for an unknown format, for none, and where a package that one needs is missing.
    """
    names = tuple(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    if not names:
        raise AutoslimError(f"No format was given: expected some of {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            raise AutoslimError(
                f"unknown export format {name!r}.{near(str(name), FORMATS)} There are: {', '.join(FORMATS)}."
            )
    for name in names:
        missing = [package for package in FORMATS[name].packages if not _installed(package)]
        if missing:
            what = f"package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
            raise AutoslimError(
                f"The export format {name} needs the {what}, not installed here: "
                "pip install 'autoslim[export]'"
            )
    return names


def check_sizes(formats: Sequence[str], key: str = "input_size") -> None:
    """Refuse formats that take images of one size only, where the preprocessing is inside and none is given.

    Raises:
        AutoslimError: naming the first such format and what to give.
    """
    for name in formats:
        if not FORMATS[name].any_size:
            raise AutoslimError(
                f"{name} cannot crop and resize images of any size: expected {key}=[height, width], the size "
                "of the images that the file will be given. Set it, leave this format out, or leave the "
                "preprocessing outside."
            )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
