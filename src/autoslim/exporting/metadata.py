"""What must be known of a file, put inside it where its format has a place for that.

LiteRT: an associated file, as TensorFlow Lite's metadata does it: an archive after the model, which `unzip`
and `zipfile` read and the runtime skips. ONNX: `metadata_props`, one for each key. SavedModel: the folder
assets.extra, which TensorFlow leaves to users. A .keras file has no place that Keras keeps.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NAME = "deployment.json"  # inside LiteRT files and SavedModel folders

Metadata = Mapping[str, Any]


def text_of(metadata: Metadata) -> str:
    """The JSON text."""
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def _into_litert(path: Path, metadata: Metadata) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(NAME, text_of(metadata))


def _into_saved_model(path: Path, metadata: Metadata) -> None:
    folder = path / "assets.extra"
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_text(text_of(metadata), encoding="utf-8")


def _into_onnx(path: Path, metadata: Metadata) -> None:
    import onnx

    model = onnx.load(str(path))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept |= {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, str(path))


INTO: dict[str, Callable[[Path, Metadata], None]] = {
    "saved_model": _into_saved_model,
    "litert": _into_litert,
    "litert_float16": _into_litert,
    "litert_int8": _into_litert,
    "onnx": _into_onnx,
}
"""Format -> how metadata gets into its file; formats without a place for it are left out."""
