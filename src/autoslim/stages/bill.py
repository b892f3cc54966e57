"""What the stages cost, in multiply-accumulates and in units of one training of the full network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoslim.kinds import KINDS
from autoslim.reporting.bill import Bill
from autoslim.stages.record import Stage, record

if TYPE_CHECKING:
    from autoslim.datasets import BatchSource
    from autoslim.stages.experiment import Experiment
    from autoslim.stages.network import Network
    from autoslim.stages.store import StageFolder

TRAINING = 3  # a forward pass, and a backward one of twice its arithmetic


def trained_images(batches: BatchSource, epochs: int) -> int:
    """Images that a training of this many epochs sees."""
    return batches.steps_per_epoch * batches.batch_size * epochs


def unit(experiment: Experiment) -> int:
    """Multiply-accumulates of one baseline training by this configuration, whether it is run or not."""
    images = trained_images(experiment.training_batches(), experiment.baseline.epochs)
    return TRAINING * int(experiment.plan.cost(experiment.own_widths).flops) * images


def billed(experiment: Experiment, macs: float) -> dict[str, Any]:
    """The part of a stage's result that says what it cost.

    `bill` is in units of the baseline training of the configuration that ran the stage, `bill_unit` that
    training's multiply-accumulates: another configuration that uses the stage may train its baseline longer.
    """
    one = unit(experiment)
    return {"macs": int(macs), "bill": macs / one, "bill_unit": one}


def bill(
    experiment: Experiment, trained: Sequence[Network], finished: Mapping[str, Mapping[str, Any]]
) -> Bill:
    """The bill of a run, in units of this configuration's baseline training.

    Where a network that a method found was trained, what it came from is on its bill too, whenever that was
    run.

    Args:
        experiment: of the run.
        trained: the networks that it trained.
        finished: label of a piece of work -> its result.json.
    """
    one, reference = unit(experiment), record("baseline").folder(experiment)
    found: dict[str, StageFolder] = {}
    slim = tuple(one.work for one in trained if one.kind != "uniform" and not KINDS[one.kind].full)
    if slim:
        found = _came_from(record("retrain"), experiment)
    results: dict[str, Mapping[str, Any]] = {n: folder.result() for n, folder in found.items() if folder.done}
    # A result that names networks is of several at once: each one's result has its share of the cost.
    results |= {label: result for label, result in finished.items() if "networks" not in result}
    results = {label: result for label, result in results.items() if "macs" in result}
    full = results.get("baseline") or (reference.result() if reference.done else {})
    timed = [result for result in (*results.values(), full) if "seconds" in result]
    return Bill(
        {label: result["macs"] / one for label, result in results.items()},
        slim,
        experiment.retrain.joint,
        {label: float(result["seconds"]) for label, result in results.items() if "seconds" in result},
        full.get("seconds"),
        tuple(dict.fromkeys(str(result.get("hardware")) for result in timed)),
        tuple(found),
    )


def _came_from(stage: Stage, experiment: Experiment) -> dict[str, StageFolder]:
    """Name -> folder of all that a stage's networks came from, the earliest first."""
    found: dict[str, StageFolder] = {}
    for need in stage.needs(experiment):
        if need.billed:
            found |= {**_came_from(need.stage, experiment), need.stage.name: need.folder}
    return found
