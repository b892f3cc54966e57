"""What a stage costs: its multiply-accumulates, and its part of the bill."""

from __future__ import annotations

from typing import Any

from autoslim.datasets import BatchSource

TRAINING = 3  # a forward pass, and a backward one of twice its arithmetic


def trained_images(batches: BatchSource, epochs: int) -> int:
    """Images that a training of this many epochs sees."""
    return batches.steps_per_epoch * batches.batch_size * epochs


def billed(macs: float, unit: int) -> dict[str, Any]:
    """The part of a stage's result that says what it cost.

    `bill` is in units of the baseline training of the configuration that ran the stage, `bill_unit` that
    training's multiply-accumulates: another configuration that uses the stage may train its baseline longer.

    Args:
        macs: multiply-accumulates that the stage took.
        unit: those of the baseline training.
    """
    return {"macs": int(macs), "bill": macs / unit, "bill_unit": unit}
