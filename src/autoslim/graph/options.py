"""How a pass through a channel graph is computed."""

from __future__ import annotations

from dataclasses import dataclass

from autoslim.schema.checks import one_of
from autoslim.schema.training import EXECUTIONS, PRECISIONS, LoopOptions

DTYPES = {"float32": None, "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
"""Name of a precision -> type in which layers compute; None: each layer in its own."""


@dataclass(frozen=True)
class RunOptions:
    """How a pass is computed; none of it changes what is computed, but for rounding and statistics.

    Args:
        batch_statistics: normalise with the batch's own statistics, not the moving ones.
        training: dropout and the like are active.
        execution: "slice" computes active channels only; "mask" computes all channels and sets the inactive
            ones to zero, with static shapes, as XLA and TPUs need them. Outputs and gradients are the same.
        precision: "float32": every layer computes in its own type; "mixed_bfloat16", "mixed_float16": the
            layers of a float32 model compute in that type, from weights that stay float32. Batch statistics,
            softmax and what the network returns are float32 all the same.
        sync_batch_norm: in a replica of a `tf.distribute` strategy, batch statistics are those of the images
            of all replicas together.

    Raises:
        AutoslimError: for an execution or a precision that does not exist.
    """

    batch_statistics: bool = False
    training: bool = False
    execution: str = LoopOptions.execution
    precision: str = LoopOptions.precision
    sync_batch_norm: bool = LoopOptions.sync_batch_norm

    def __post_init__(self) -> None:
        one_of("execution", self.execution, EXECUTIONS)
        one_of("precision", self.precision, PRECISIONS)

    @property
    def masked(self) -> bool:
        """Whether all channels are computed, the inactive ones as zeros."""
        return self.execution == "mask"
