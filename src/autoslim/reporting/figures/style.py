"""What the figures have in common: colours, markers, style, and how they become files."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import ScaledTranslation

from autoslim.writing import replacing

CURVE = "#9AA5B1"
FULL_WIDTH = "#E3E7EB"
INK = "#24292F"

DPI = 150
APART = 5  # points, 1/72 inch, between what would stand at one cost

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6E7781",
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E9EC",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#57606A",
    "ytick.color": "#57606A",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}

PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")

F = TypeVar("F", bound=Callable[..., Figure])


def styled(draw: F) -> F:
    """Draw in our style, whatever the user's matplotlibrc says, and leave the user's settings alone."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            figure = draw(*args, **kwargs)
            if type(figure.canvas) is FigureCanvasBase:  # a figure of our own, which nothing draws yet
                FigureCanvasAgg(figure)
            figure.canvas.draw()  # lays everything out while the style holds
            return figure

    return drawn  # type: ignore[return-value]


def sized(figure: Figure | None, width: float, height: float) -> Figure:
    """The figure to draw on, or a new one: laid out so that nothing overlaps, of a size in inches."""
    if figure is None:
        return Figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("constrained")
    figure.set_size_inches(width, height)
    return figure


FORMATS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
"""Formats of figures, with what is left out of their files' metadata: it would differ from call to call."""


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, PDF and SVG, each whole or not at all; the same figure, the same bytes.

    Args:
        figure: to write.
        path: of the PNG; the others stand next to it.
    """
    path = Path(path)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table of a PDF's font
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "pdf.fonttype": 42}):
        for name, metadata in FORMATS.items():
            with replacing(path.with_suffix(f".{name}")) as part:
                figure.savefig(part, format=name, dpi=DPI, metadata=metadata)
    return path


def to_image(figure: Figure) -> np.ndarray:
    """A figure as pixels, for TensorBoard: uint8 [1, H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[np.newaxis, :, :, :3].copy()


def side_by_side(axes: Axes, drawn: Sequence[Sequence[Artist]]) -> None:
    """Shift each line of points a little to the side of the one before, so that none hides another.

    Args:
        axes: with all that decides on their limits.
        drawn: artists of the axes, line by line.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # what is shifted counts for no limits
    scale = cast(Figure, axes.figure).dpi_scale_trans
    for number, artists in enumerate(drawn):
        shift = APART * (number - (len(drawn) - 1) / 2) / 72
        for artist in artists:
            artist.set_transform(axes.transData + ScaledTranslation(shift, 0, scale))
