"""What the stages cost, in multiply-accumulates and in units of one training of the full network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoslim.kinds import KINDS
from autoslim.reporting.bill import Bill
from autoslim.stages.record import Run, record
from autoslim.stages.store import StageFolder


def bill(run: Run) -> Bill:
    """The bill of a run, in units of its configuration's baseline training.

    Where a network that a method found was trained, what it came from is on its bill too, whenever that was
    run.
    """
    experiment, finished = run.experiment, run.finished
    reference = record("baseline").folder(experiment)
    found: dict[str, StageFolder] = {}
    slim = tuple(one.work for one in run.trained if one.kind != "uniform" and not KINDS[one.kind].full)
    if slim:
        found = record("retrain").came_from(experiment)
    results: dict[str, Mapping[str, Any]] = {n: folder.result() for n, folder in found.items() if folder.done}
    # A result that names networks is of several at once: each one's result has its share of the cost.
    results |= {label: result for label, result in finished.items() if "networks" not in result}
    results = {label: result for label, result in results.items() if "macs" in result}
    full = results.get("baseline") or (reference.result() if reference.done else {})
    timed = [result for result in (*results.values(), full) if "seconds" in result]
    return Bill(
        {label: result["macs"] / experiment.unit for label, result in results.items()},
        slim,
        experiment.retrain.joint,
        {label: float(result["seconds"]) for label, result in results.items() if "seconds" in result},
        full.get("seconds"),
        tuple(dict.fromkeys(str(result.get("hardware")) for result in timed)),
        tuple(found),
    )
