"""Exported files, full and slimmed side by side: in the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from autoslim.kinds import KINDS
from autoslim.metrics import TOP1, Metric
from autoslim.reporting import units
from autoslim.reporting.markdown_table import table

_FULL = [
    kind.label for kind in reversed(KINDS.values()) if kind.full
]  # the last one there is to compare with

HEAD = (
    "format",
    "network",
    "size",
    "size / full",
    "",  # the metric
    "largest difference",
    "agreement %",
    "latency ms",
    "latency / full",
)
TEXT_COLUMNS = 2

CSV_FIELDS = (
    "network",
    "format",
    "bytes",
    "metric",
    "keras_metric",
    "largest_difference",
    "agreement",
    "latency_ms",
    "latency_spread",
    "path",
)
"""The fields of a row, in the order of `export.csv`: shares in [0, 1], milliseconds, empty where unknown."""


def head(measure: Metric) -> tuple[str, ...]:
    """Titles of the columns."""
    return tuple(title or measure.head for title in HEAD)


def export_table(rows: Sequence[dict[str, Any]], measure: Metric = TOP1) -> Table:
    """The table for `show`.

    Args:
        rows: one for each file, with `CSV_FIELDS`.
        measure: what the metric of files is.
    """
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(head(measure)):
        shown.add_column(title, justify="left" if index < TEXT_COLUMNS else "right", no_wrap=True)
    cells = _cells(rows, measure)
    for index, line in enumerate(cells):
        last = index + 1 == len(cells) or cells[index + 1][0] != line[0]
        shown.add_row(*line, end_section=last)
    return shown


def export_markdown(
    rows: Sequence[dict[str, Any]],
    images: int,
    calibration: int | None,
    programs: Mapping[str, str] | None = None,
    *,
    inside: bool = False,
    measure: Metric = TOP1,
) -> str:
    """The text of export.md.

    Args:
        rows: one for each file, with `CSV_FIELDS`.
        images: how many test images the files were run on.
        calibration: how many training images int8 was calibrated with; None: no format needed any.
        programs: format -> the program that runs a file of it on image files.
        inside: whether files crop, resize and normalise by themselves.
        measure: what the metric of files is.
    """
    notes = [
        f"Each file was run by its own runtime on {images:,} test images, balanced over the classes; "
        f"{measure.label} is of those. Largest difference: of an output, from the Keras model. Agreement: "
        "images (or pixels, or labels) with the Keras model's answer. Latency: median for one image, one "
        "thread, on the CPU of this machine, in a process of its own; keras and saved_model as a traced "
        "function. ±: half the distance between the quartiles of its rounds; latencies that differ by less "
        "are the same.",
    ]
    if calibration is not None:
        notes.append(f"int8 was calibrated with {calibration:,} training images.")
    files = "\n".join(f"- {row['network']}, {row['format']}: `{row['path']}`" for row in rows)
    shown = table(head(measure), _cells(rows, measure), TEXT_COLUMNS)
    parts = [f"# Exported files\n\n{shown}\n\n{' '.join(notes)}", files]
    if programs:
        parts.append(_running(programs, inside))
    return "\n\n".join(parts) + "\n"


def _running(programs: Mapping[str, str], inside: bool) -> str:
    where = (
        "The files take uint8 pixels: they crop, resize and normalise by themselves."
        if inside
        else "The files take images that are cropped, resized and normalised."
    )
    text = (
        f"## Running a file\n\n{where} Next to each file stands what must be known of it, as JSON, and the "
        "program below, such as `model.onnx.py`: `python model.onnx.py image.jpg` prints the class of an "
        "image. It gives the top-1 reported, and needs NumPy, Pillow and the runtime. LiteRT files also hold "
        "the JSON as deployment.json (`unzip -p model.tflite deployment.json`), ONNX files in "
        "metadata_props, SavedModel folders in assets.extra. The paths are relative to this folder."
    )
    shown = [f"### {name}\n\n```python\n{code}```" for name, code in programs.items()]
    return "\n\n".join([text, *shown])


def export_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The text of export.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cells(rows: Sequence[dict[str, Any]], measure: Metric) -> list[list[str]]:
    """Rows of text, format by format, the networks of each in the order given."""
    formats = list(dict.fromkeys(row["format"] for row in rows))
    full = {row["format"]: row for name in _FULL for row in rows if row["network"] == name}
    return [
        [
            row["format"],
            row["network"],
            units.memory(row["bytes"]),
            _share(row, full.get(row["format"]), "bytes"),
            "-" if row["metric"] is None else measure.number(row["metric"]),
            f"{row['largest_difference']:.2g}",
            "-" if row["agreement"] is None else f"{100 * row['agreement']:.1f}",
            _latency(row),
            _share(row, full.get(row["format"]), "latency_ms"),
        ]
        for name in formats
        for row in rows
        if row["format"] == name
    ]


def _latency(row: Mapping[str, Any]) -> str:
    """Median and spread."""
    if row["latency_ms"] is None:
        return "-"
    spread = row.get("latency_spread")
    return f"{row['latency_ms']:.3g}" + ("" if spread is None else f" ± {units.percent(spread)}")


def _share(row: dict[str, Any], full: dict[str, Any] | None, key: str) -> str:
    if full is None or not full[key] or row[key] is None:
        return "-"
    return f"{row[key] / full[key]:.2f}"
