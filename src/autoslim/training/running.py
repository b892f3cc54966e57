"""How a training goes about its steps: what is saved, logged, watched, and when it ends early."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """Settings of the training loop.

    All but `patience` and `keep_best` change no bit of the result.
    """

    checkpoint_seconds: float = 60.0  # time between checkpoints; 0: after every step
    checkpoint_steps: int | None = None  # steps between checkpoints, beside the seconds
    keep_checkpoints: int = 2  # the last ones that are kept
    keep_best: bool = False  # end with the weights of the epoch of lowest mean training loss
    patience: int | None = None  # end after so many epochs without a lower mean training loss; None: never
    log_steps: int = 20  # steps between points of the TensorBoard curves
    evaluate_epochs: int | None = None  # epochs between evaluations; None: none
    profile: tuple[int, int] | None = None  # first and last step, from 1, of a TensorBoard profile
    steps_per_call: int = 1  # plain steps that are taken in one call of a traced function


USUALLY = Running()
