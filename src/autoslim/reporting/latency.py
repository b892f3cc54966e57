"""The report's section on latency: predicted and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from autoslim.reporting import units
from autoslim.reporting.markdown_table import table


class LatencyRow(NamedTuple):
    """A network's latency, measured in the same rounds as the full one's."""

    label: str
    predicted: float
    measured: float
    spread: float  # half the distance between the quartiles of its rounds, as a share of the median
    share: float  # of the full network's measured latency
    settled: bool = True  # whether its rounds, or two measurements of it, agree


def latency_section(rows: Sequence[LatencyRow], summary: Mapping[str, Any]) -> str:
    """The section in Markdown; "" where nothing was measured.

    Args:
        rows: the networks, the full one first.
        summary: of the prediction: networks, spread, noisy (how many), error,
            rank_correlation, unit, where ("litert, 1 thread, ...").
    """
    if not rows:
        return ""
    unit = summary["unit"]
    cells = [
        [
            row.label,
            f"{row.predicted:.4g}",
            f"{row.measured:.4g}",
            units.percent(row.spread),
            f"{row.share:.3f}",
            f"{row.measured / row.predicted:.2f}",
        ]
        for row in rows
    ]
    head = ["network", f"predicted, {unit}", f"measured, {unit}", "spread", "of full", "measured / predicted"]
    notes = (
        f"For one image ({summary['where']}). Measured: the median of rounds that went through all these "
        "networks one after the other; spread: half the distance between the quartiles of a network's "
        f"rounds. Predicted: by a fit to {summary['networks']} measured networks (median spread "
        f"{units.percent(summary['spread'])}), whose median error on "
        f"networks that it had not seen is {units.percent(summary['error'])} (rank correlation "
        f"{summary['rank_correlation']:.3f})."
    )
    if noisy := [row.label for row in rows if not row.settled]:
        notes += f" Measurements of these do not agree, however often they were repeated: {', '.join(noisy)}."
    if summary["noisy"]:
        notes += f" The same holds of {summary['noisy']} of the networks that the fit is made from."
    return f"## Latency\n\n{table(head, cells)}\n\n{notes}"
