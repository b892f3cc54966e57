"""What the stages cost, in multiply-accumulates and in units of one training of the full network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autoslim.reporting.bill import Bill
from autoslim.stages.origin import origin

if TYPE_CHECKING:
    from autoslim.datasets import BatchSource
    from autoslim.stages.experiment import Experiment

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


def bill(experiment: Experiment, finished: Mapping[str, Mapping[str, Any]]) -> Bill:
    """The bill of these stages, label -> result.json, in units of this configuration's baseline training.

    Where a slim network was trained, the supernet and the search that it came from are on its bill too,
    whenever they were run.
    """
    one = unit(experiment)
    results = {
        label: result for label, result in finished.items() if not label.startswith("joint")
    }  # its parts are there
    if any(label.startswith("retrain") for label in finished):
        results = {**_found_before(experiment), **results}
    results = {label: result for label, result in results.items() if "macs" in result}
    reference = results.get("baseline") or _baseline_before(experiment)
    timed = [result for result in (*results.values(), reference) if "seconds" in result]
    return Bill(
        {label: result["macs"] / one for label, result in results.items()},
        experiment.retrain.joint,
        {label: float(result["seconds"]) for label, result in results.items() if "seconds" in result},
        reference.get("seconds"),
        tuple(dict.fromkeys(str(result.get("hardware")) for result in timed)),
    )


def _baseline_before(experiment: Experiment) -> Mapping[str, Any]:
    """The result of this configuration's baseline training, if it was ever run."""
    folder = experiment.baseline_folder()
    return folder.result() if folder.done else {}


def _found_before(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Results of the supernet and the search that this configuration's slim networks come from."""
    retrain, channels = experiment.retrain, experiment.config.slim.channels
    found = origin(experiment) if channels else None
    searched, folders = channels is None or found is not None, []
    if experiment.supernet.init == "baseline" and (searched or "supernet" in (retrain.init, retrain.teacher)):
        folders.append(experiment.pretrain_folder())
    if searched or "supernet" in (retrain.init, retrain.teacher):
        folders.append(experiment.supernet_folder())
    if searched:
        folders.append(found.folder if found else experiment.search_folder())
    return {folder.stage: folder.result() for folder in folders if folder.done}
