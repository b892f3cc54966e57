"""Metrics of a network's answers: names, units, and which way is better. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Metric:
    """How good an answer is, image by image; a network's metric is the mean over the images.

    >>> TOP1.text(0.97225), TOP1.difference(-0.0034), TOP1.head
    ('97.22 %', '-0.34', 'top-1 %')
    >>> MAE.text(0.97225), MAE.difference(-0.0034), MAE.gain(0.1, 0.3) > 0
    ('0.9722', '-0.0034', True)
    """

    name: str  # in files and curves: one word
    label: str  # in sentences and tables
    title: str  # at the axis of a figure
    percent: bool = False  # whether it is a share, shown in percent
    higher: bool = True  # whether more is better
    binary: bool = False  # whether it is 0 or 1 for each image: an answer is correct or not

    @property
    def head(self) -> str:
        """Over a column of a table."""
        return f"{self.label} %" if self.percent else self.label

    def difference_head(self, what: str) -> str:
        """Over a column of differences."""
        return f"{what}, points" if self.percent else what

    def number(self, value: float) -> str:
        """A value without its unit."""
        return f"{100 * value:.2f}" if self.percent else f"{value:.4g}"

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{self.number(value)} %" if self.percent else self.number(value)

    def gain(self, value: float, other: float) -> float:
        """By how much a value is better than another one: positive if it is better."""
        return value - other if self.higher else other - value

    def difference(self, difference: float) -> str:
        """A difference with its sign, in percentage points if it is one of shares."""
        text = f"{100 * difference:+.2f}" if self.percent else f"{difference:+.4g}"
        return text[1:] if float(text) == 0 else text

    def size(self, difference: float) -> str:
        """The size of a difference with its unit, without its sign."""
        return f"{abs(100 * difference):.2f} points" if self.percent else f"{abs(difference):.4g}"

    def badness(self, values: np.ndarray) -> np.ndarray:
        """What a search compares, float64: less is better."""
        values = values.astype("float64")
        return 1.0 - values if self.higher else values

    def kept(self, values: np.ndarray) -> dict[str, Any]:
        """The values of all images [N] as a result keeps them, JSON-able: a text of 0 and 1, or numbers."""
        if self.binary:
            return {"correct": "".join("1" if value else "0" for value in values)}
        return {"values": [float(f"{value:.7g}") for value in values]}


TOP1 = Metric("top1", "top-1", "top-1 accuracy", percent=True, binary=True)
F1 = Metric("f1", "F1", "F1 of each image's labels", percent=True)
MEAN_IOU = Metric("mean_iou", "mean IoU", "mean IoU", percent=True)
MAE = Metric("mae", "mean absolute error", "mean absolute error", higher=False)


def kept_values(result: Mapping[str, Any]) -> np.ndarray:
    """The values of all images that a result keeps: float64 [N]."""
    import numpy as np  # not above: the command line answers --help without it

    if "correct" in result:
        return (np.array(list(result["correct"])) == "1").astype(np.float64)
    return np.asarray(result["values"], np.float64)
