"""What a run returns to Hydra, so that a sweeper such as Optuna's can look for good values of keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from autoslim.errors import AutoslimError
from autoslim.kinds import KINDS
from autoslim.metrics import TOP1

_FORM = re.compile(r"(?P<figure>\w+?)_(?:at_target|of_(?P<kind>\w+?)(?:_at_target)?)")
HELP = (
    "FIGURE_at_target, or FIGURE_of_KIND, such as metric_at_target (of classes also top1_at_target), "
    "params_share_at_target or loss_of_uniform"
)
"""How an objective is written."""


def is_objective(name: str) -> bool:
    """Whether a name has the form of an objective.

    >>> is_objective("top1_at_target"), is_objective("flops_share_of_uniform"), is_objective("top1")
    (True, True, False)
    """
    match = _FORM.fullmatch(name)
    return match is not None and match["kind"] in (None, *KINDS)


def objective(names: Sequence[str], rows: Sequence[Mapping[str, Any]], kind: str) -> float | list[float]:
    """The figures that a run is judged by: one number, or a list where several are named.

    Args:
        names: as `HELP` says.
        rows: of the trained networks, as in a sweep's summary.
        kind: of the networks that the run is about, a key of `kinds.KINDS`.

    Raises:
        AutoslimError: if no network of the run has such a figure.
    """
    values = [_figure(name, rows, kind) for name in names]
    return values[0] if len(values) == 1 else values


def _figure(name: str, rows: Sequence[Mapping[str, Any]], kind: str) -> float:
    match = _FORM.fullmatch(name)
    assert match is not None
    wanted = (match["kind"],) if match["kind"] else (kind, "channels")
    networks = [row for row in rows if row["network"] in wanted]
    if not networks:
        there = ", ".join(dict.fromkeys(row["network"] for row in rows)) or "none"
        raise AutoslimError(
            f"objective={name}: the run trained no network of kind {' or '.join(wanted)} (trained: {there}). "
            "Add the stage that trains it to stages, or choose another objective."
        )
    smallest = min(networks, key=lambda row: 2.0 if row["target"] is None else row["target"])
    measure = smallest.get("measure", {}).get("name", TOP1.name)
    value = smallest.get("metric" if match["figure"] == measure else match["figure"])
    if not isinstance(value, int | float):
        found = [key for key, one in smallest.items() if isinstance(one, int | float) and key != "target"]
        figures = ", ".join([measure, *found])
        raise AutoslimError(
            f"objective={name}: a network has no figure {match['figure']!r}. There are: {figures}."
        )
    return float(value)
